"""DiscreteVAE: its gradient against enumeration, its ELBO and bounds, its runs, pictures, predictions and samples."""

import math
from functools import partial

import pytest
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import binary_cross_entropy
from trainers import keep_last, quiet_trainer

from ils_lightning.callbacks import Dashboard, EvaluationReport, FitReport, RankSeed
from ils_lightning.data import Digits, NoData
from ils_lightning.data.images import Images
from ils_lightning.estimators import (
    Exact,
    GumbelSoftmax,
    ILSDiagonal,
    ILSNewton,
    LeaveOneOut,
    Rebar,
    ReinMax,
    StraightThrough,
)
from ils_lightning.estimators.categorical import draw, enumerate_states, log_prob, softmax
from ils_lightning.modules import DiscreteVAE, LearntPrior, UniformPrior
from ils_lightning.networks import MLP, ConvDecoder, ConvEncoder

SHAPE = (1, 3, 3)


def tiny(estimator, latents=2, categories=3, **options):
    options = {"encoder": MLP([6], activation="tanh"), "decoder": MLP([6], activation="tanh")} | options
    return DiscreteVAE(estimator, latents, categories, image_shape=list(SHAPE), **options).double()


def pixels(rows=5):
    return (torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(5)) > 0.5).double()


def enumerated(model, x):
    """-ELBO `[batch]` as a sum over all codes, differentiable in everything."""
    logits = model.encoder(x)
    states = enumerate_states(*logits.shape[-2:], like=logits).unsqueeze(1).expand(-1, len(x), -1, -1)
    log_q = log_prob(logits, states).sum(dim=-1)
    log_joint = model.likelihood.log_prob(model.decoder(states), x) + model.prior.log_prob(states)
    return (log_q.exp() * (log_q - log_joint)).sum(dim=0)


def fit(folder, epochs, estimator=ReinMax, resume=None, data=None, **options):
    seed_everything(3, verbose=False)
    model = DiscreteVAE(estimator(), **{"latents": 4, "categories": 3, **options})
    trainer = quiet_trainer(folder, RankSeed(), keep_last(folder), max_epochs=epochs, limit_train_batches=4)
    trainer.fit(model, datamodule=data or Digits(batch_size=50), ckpt_path=resume, weights_only=True)
    return model, trainer


@pytest.mark.parametrize("prior", [UniformPrior(), LearntPrior()])
def test_exact_estimator_gives_the_gradient_of_the_enumerated_elbo(prior):
    model, x = tiny(Exact(), prior=prior), pixels()
    model.prior.logits.data.add_(torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3))
    expected = enumerated(model, x)
    wanted = torch.autograd.grad(expected.mean(), list(model.parameters()))
    loss, negative_elbo, parts = model.objective(x)
    torch.testing.assert_close(negative_elbo, expected.detach())
    torch.testing.assert_close(parts["reconstruction"] + parts["kl"], expected.mean().detach())
    torch.testing.assert_close(torch.autograd.grad(loss, list(model.parameters())), wanted)


@pytest.mark.parametrize(("estimator", "biased"), [(LeaveOneOut(4), False), (StraightThrough(), True)])
def test_gradient_of_the_encoder_is_that_of_the_estimator(estimator, biased):
    model, x = tiny(estimator), pixels(rows=1)
    weight = model.encoder.layers[-1].bias
    (wanted,) = torch.autograd.grad(enumerated(model, x).mean(), weight)
    many = x.expand(200, *SHAPE)
    found = torch.stack([torch.autograd.grad(model.objective(many).loss, weight)[0] for _ in range(100)])
    z_score = (found.mean(dim=0) - wanted) / found.std(dim=0) * math.sqrt(len(found))
    assert (z_score.abs().max() > 4.5) == biased


def test_exact_kl_agrees_with_draws():
    prior = LearntPrior()
    prior.build(3, 4)
    prior.logits.data.normal_()
    logits = torch.randn(1, 3, 4)
    z = draw(softmax(logits), 100_000)
    ratios = log_prob(logits, z).sum(dim=-1) - prior.log_prob(z)
    z_score = (ratios.mean() - prior.kl(logits).sum()) / ratios.std() * math.sqrt(len(ratios))
    mutant = (ratios.mean() - UniformPrior.kl(_uniform(3, 4), logits).sum()) / ratios.std() * math.sqrt(len(ratios))
    assert abs(z_score) < 4.5 < abs(mutant)


def _uniform(latents, categories):
    prior = UniformPrior()
    prior.build(latents, categories)
    return prior


def test_bounds_lie_between_likelihood_and_elbo():
    model, x = tiny(ReinMax(), latents=3, importance_samples=20, draws=400), pixels()
    states = enumerate_states(3, 3, like=x).unsqueeze(1).expand(-1, len(x), -1, -1)
    with torch.no_grad():
        log_joint = model.likelihood.log_prob(model.decoder(states), x) + model.prior.log_prob(states)
        evidence, elbo = -torch.logsumexp(log_joint, dim=0).mean(), enumerated(model, x).mean()
        found = model.evaluate(x, 2_000)
    rows = found.reconstruction.mean(dim=-1)
    z_score = (rows.mean() + found.kl.sum(dim=-1).mean() - elbo) / rows.std() * math.sqrt(len(rows))
    bound = (math.log(20) - found.log_weights.unflatten(0, (-1, 20)).logsumexp(dim=1)).mean()
    assert abs(z_score) < 4.5
    assert evidence < bound < elbo
    torch.testing.assert_close(
        (math.log(2_000) - found.log_weights.logsumexp(dim=0)).mean(), evidence, atol=0.02, rtol=0
    )


def test_warm_up_weighs_the_kl_of_the_loss_but_not_the_recorded_elbo(monkeypatch):
    model, x = tiny(Exact(), kl_warmup=10), pixels()
    weights = []
    for step in (0, 5, 10, 20):
        monkeypatch.setattr(DiscreteVAE, "global_step", step)
        loss, negative_elbo, parts = model.objective(x)
        torch.testing.assert_close(negative_elbo.mean(), enumerated(model, x).mean())
        weights.append(((loss - parts["reconstruction"]) / parts["kl"]).item())
    assert weights == pytest.approx([0, 0.5, 1, 1])


def test_free_bits_are_not_paid_for():
    x = pixels()
    model = tiny(Exact(), free_bits=100.0)
    loss, _, parts = model.objective(x)
    torch.testing.assert_close(loss.detach(), parts["reconstruction"] + 2 * 100)
    model.free_bits = 1e-9
    loss, negative_elbo, _ = model.objective(x)
    torch.testing.assert_close(loss.detach(), negative_elbo.mean())


def without_codes(data):
    """-ELBO of validation images when each is described by the mean training image."""
    images = torch.cat([batch.x for batch in data.val_dataloader()])
    return binary_cross_entropy(data.pixel_mean.expand_as(images), images, reduction="sum") / len(images)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [ReinMax, GumbelSoftmax, LeaveOneOut, ILSNewton, Rebar, Exact])
def test_every_kind_of_estimator_learns_codes_that_tell_images_apart(estimator, tmp_path):
    data = Digits(batch_size=50)
    model, trainer = fit(tmp_path, 40, estimator, data=data, optimizer=partial(torch.optim.Adam, lr=0.01))
    steps, values = model.curve()
    assert steps.tolist() == list(range(4, 161, 4))
    assert values.shape == (40, 1)
    assert values[0] > without_codes(data) - 0.5
    assert trainer.callback_metrics["val/loss"] < without_codes(data) - 1


def test_two_runs_of_a_seed_are_identical(tmp_path):
    one, two = (fit(tmp_path / name, 3, ILSNewton)[0] for name in ("one", "two"))
    assert torch.equal(one.curve()[1], two.curve()[1])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_resumed_run_goes_on_as_if_never_stopped(tmp_path):
    whole, _ = fit(tmp_path / "whole", 4, ILSNewton, kl_warmup=10)
    fit(tmp_path / "half", 2, ILSNewton, kl_warmup=10)
    resumed, _ = fit(tmp_path / "half", 4, ILSNewton, kl_warmup=10, resume=tmp_path / "half" / "last.ckpt")
    assert torch.equal(torch.stack(whole.curve()[1].unbind()), resumed.curve()[1])
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_checkpoint_rebuilds_the_model_from_plain_data(tmp_path):
    model, _ = fit(tmp_path, 1, prior=LearntPrior(lr=0.1), encoder=MLP([20], activation="tanh"))
    loaded = DiscreteVAE.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    generator = torch.Generator()
    again = [one.sample(3, generator.manual_seed(1)) for one in (model, loaded)]
    assert torch.equal(*again)
    assert loaded.hparams["image_shape"] == [1, 8, 8]
    assert (loaded.prior.lr, loaded.encoder.activation) == (0.1, "tanh")


def test_other_images_than_those_it_was_made_for_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"images .* = \[1, 3, 3\]; these are \[1, 8, 8\]"):
        fit(tmp_path, 1, image_shape=[1, 3, 3])
    with pytest.raises(ValueError, match=r"needs data that are images, such as --data Digits.*NoData"):
        fit(tmp_path, 1, data=NoData())


@pytest.mark.parametrize("options", [{"latents": 0}, {"kl_warmup": -1}, {"free_bits": -1.0}, {"draws": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must be at least"):
        DiscreteVAE(ReinMax(), **options)
    with pytest.raises(ValueError, match="lr must be greater than 0"):
        LearntPrior(lr=0.0)


def test_learnt_prior_learns_at_its_own_rate(tmp_path):
    model, trainer = fit(tmp_path, 2, prior=LearntPrior(lr=0.5))
    rates = {group["lr"]: len(group["params"]) for group in trainer.optimizers[0].param_groups}
    assert rates[0.5] == 1
    assert model.prior.logits.abs().min() > 0.1
    assert set(rates) == {0.5, 0.001}


def test_decoder_starts_from_the_mean_image_once(tmp_path):
    data = Digits(batch_size=50)
    model = DiscreteVAE(ReinMax(), bias_from_data=True)
    trainer = Trainer(
        fast_dev_run=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(model, datamodule=data)
    trained = model.decoder.layers[-1].bias.detach().clone()
    torch.testing.assert_close(
        trained.sigmoid().reshape(8, 8), data.pixel_mean[0].clamp(0.001, 0.999), atol=2e-3, rtol=0
    )
    model.setup("fit")
    assert torch.equal(model.decoder.layers[-1].bias, trained)


def test_test_set_measures_all_quantities(tmp_path):
    model, trainer = fit(tmp_path, 2)
    (found,) = trainer.test(model, datamodule=Digits(), verbose=False)
    assert set(found) == {
        *("test/loss", "test/reconstruction", "test/kl", "test/iwae"),
        *("test/perplexity", "test/code_usage", "test/active_latents"),
    }
    assert found["test/loss"] == pytest.approx(found["test/reconstruction"] + found["test/kl"], abs=1e-3)
    assert found["test/iwae"] < found["test/loss"]
    assert model.summary()["test -ELBO"] == f"{found['test/loss']:.2f} nats"


def test_pictures_leave_the_random_stream_alone(tmp_path):
    model, _ = fit(tmp_path, 1)
    state = torch.get_rng_state()
    assert set(model.figures()) == {"reconstructions", "samples", "traversal"}
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    torch.testing.assert_close(model.histograms()["code_frequency"].sum(dim=-1), torch.ones(4))


def test_a_traversal_changes_one_latent_at_a_time():
    model = tiny(ReinMax(), latents=2, categories=3)
    codes = torch.tensor([2, 0])
    grid, latents = model.traversal(codes)
    assert grid.shape == (2, 3, *SHAPE)
    assert latents.tolist() == [0, 1]
    original = model.decode(torch.eye(3, dtype=torch.float64)[codes])
    torch.testing.assert_close(grid[0, 2], original)
    torch.testing.assert_close(grid[1, 0], original)


def test_a_traversal_shows_the_latents_that_change_the_image_most():
    model = tiny(ReinMax(), latents=20, categories=18, decoder=MLP([]))
    matter = [3, 4, 7, 8, 11, 12, 18, 19]
    weights = model.decoder.layers[-1].weight.data.unflatten(1, (20, 18))
    weights[:, [latent for latent in range(20) if latent not in matter]] = 0
    grid, latents = model.traversal(torch.zeros(20, dtype=torch.long))
    assert latents.tolist() == matter
    assert grid.shape == (8, 16, *SHAPE)


def test_prediction_is_the_code_and_its_image():
    model, x = tiny(ReinMax(), latents=4, categories=3), pixels()
    found = model.predict_step(Images(x, torch.zeros(5)))
    assert found["codes"].dtype == torch.int64
    one_hot = torch.eye(3, dtype=torch.float64)[found["codes"].long()]
    torch.testing.assert_close(found["reconstructions"], model.decode(one_hot))
    assert torch.equal(found["codes"].long(), model.encoder(x).argmax(dim=-1))


def test_samples_follow_the_prior():
    model = tiny(ReinMax(), latents=1, categories=2, prior=LearntPrior())
    model.prior.logits.data.copy_(torch.tensor([[0.0, 100.0]]))
    expected = model.decode(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(model.sample(6), expected.expand(6, *SHAPE))


def test_problem_is_what_the_estimator_is_asked():
    model, x = tiny(Exact()), pixels()
    logits, f, _ = model.problem(Images(x, torch.zeros(5)))
    loss = Exact()(logits, f) + model.prior.kl(logits).sum(dim=-1)
    torch.testing.assert_close(loss, enumerated(model, x))


@pytest.mark.slow
def test_convolutional_networks_learn_codes_that_tell_images_apart(tmp_path):
    data, options = Digits(batch_size=50), {"optimizer": partial(torch.optim.Adam, lr=0.01), "kl_warmup": 200}
    networks = {"encoder": ConvEncoder(8, residual_blocks=0), "decoder": ConvDecoder(8, residual_blocks=0)}
    _, trainer = fit(tmp_path, 60, data=data, latents=16, categories=4, **networks, **options)
    assert trainer.callback_metrics["val/loss"] < without_codes(data) - 1


@pytest.mark.parametrize(("weight", "told"), [(0.0, True), (30.0, False)])
def test_a_run_whose_codes_say_nothing_is_told_so(weight, told, capsys, tmp_path):
    model = DiscreteVAE(estimator=ReinMax(), image_shape=[1, 8, 8])
    with torch.no_grad():
        model.encoder.layers[-1].weight *= weight
        model.encoder.layers[-1].bias *= 0
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    callbacks = [FitReport(), EvaluationReport(), Dashboard()]
    options = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    options |= {"log_every_n_steps": 1}
    trainer = Trainer(
        max_epochs=1, limit_train_batches=1, logger=logger, callbacks=callbacks, accelerator="cpu", **options
    )
    trainer.fit(model, Digits())
    trainer.test(model, Digits(), verbose=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("note: the codes say nothing of the validation images (no active latent, KL 0.0" in printed) == told
    assert ("note: the codes say nothing of the test images" in printed) == told
    tags = EventAccumulator(str(tmp_path / "run")).Reload().Tags()["tensors"]
    assert ("note/text_summary" in tags) == told
    assert "val/active_latents" in trainer.progress_bar_metrics or "test/active_latents" in trainer.progress_bar_metrics


def test_the_kl_has_no_weight_until_its_delay_is_over(monkeypatch):
    model = DiscreteVAE(estimator=ReinMax(), kl_warmup=10, kl_delay=5, image_shape=[1, 8, 8])
    weights = []
    for step in (0, 4, 5, 10, 15, 20):
        monkeypatch.setattr(DiscreteVAE, "global_step", step)
        weights.append(model.kl_weight())
    assert weights == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    monkeypatch.setattr(DiscreteVAE, "global_step", 5)
    assert DiscreteVAE(estimator=ReinMax(), kl_delay=5).kl_weight() == 1.0
    with pytest.raises(ValueError, match="kl_delay must be 0 or more steps; given -1"):
        DiscreteVAE(estimator=ReinMax(), kl_delay=-1)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_delay_keeps_many_categories_from_going_flat(seed):
    """The start of the MNIST tokeniser, at the size of the digits: without the delay the codes say hardly anything."""
    kl = {}
    for delay in (0, 60):
        seed_everything(seed, verbose=False)
        networks = {"encoder": ConvEncoder(channels=32), "decoder": ConvDecoder(channels=32)}
        model = DiscreteVAE(ILSDiagonal(), 16, 512, kl_warmup=2000, kl_delay=delay, **networks)
        options = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = Trainer(max_steps=60, logger=False, callbacks=[RankSeed()], accelerator="cpu", **options)
        trainer.fit(model, Digits(binarize="none"))
        trainer.validate(model, Digits(binarize="none"), verbose=False)
        kl[delay] = float(trainer.callback_metrics["val/kl"])
    assert trainer.callback_metrics["val/active_latents"] == 16
    assert kl[60] > 50
    assert kl[0] < 1
