"""CategoricalFit through the Trainer: honest steps, chunks equal to single steps, resumed equal to uninterrupted."""

from pathlib import Path

import pytest
import torch
from examples import EXAMPLES
from lightning import Callback, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainers import stepwise_trainer

from ils_lightning.callbacks import Figures, FitReport, Hyperparameters, RankSeed
from ils_lightning.data import SingleDraws, TrueDistribution
from ils_lightning.estimators import (
    ILS,
    Average,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    MovingAverage,
    Rebar,
    Reinforce,
    StraightThrough,
    TopKSubset,
)
from ils_lightning.losses import BilinearEnergy, ExpectedKL, LogLoss, RBFEnergy
from ils_lightning.modules import CategoricalFit
from ils_lightning.modules.descent import plain_descent


def fit(folder: Path, steps: int, resume: Path | None = None, data=None, logger=False, callbacks=(), **options):
    seed_everything(3, verbose=False)
    module = CategoricalFit(**{"estimator": ILS(step_size=0.02, pullback="none"), **options})
    trainer = stepwise_trainer(folder, steps, RankSeed(), *callbacks, log_every_n_steps=1, logger=logger)
    trainer.fit(module, datamodule=data or TrueDistribution(seed=1), ckpt_path=resume)
    return module, trainer


@pytest.mark.parametrize(("steps", "chunk"), [(30, 10), (25, 10), (7, 1), (5, 100)])
def test_takes_exactly_max_steps(tmp_path, steps, chunk):
    module, trainer = fit(tmp_path, steps, chunk=chunk)
    assert trainer.global_step == steps
    assert module.curve()[0][-1] == steps
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == steps


@pytest.mark.parametrize(
    "make", [lambda: ILS(0.02), lambda: Reinforce(baseline=MovingAverage()), GumbelSoftmax], ids=["ILS", "EMA", "soft"]
)
@pytest.mark.parametrize("data", [TrueDistribution, SingleDraws])
def test_chunks_equal_single_steps_bit_for_bit(tmp_path, make, data):
    chunked, _ = fit(tmp_path, 23, chunk=10, estimator=make(), data=data(seed=1))
    single, _ = fit(tmp_path, 23, chunk=1, estimator=make(), data=data(seed=1))
    assert torch.equal(chunked.logits, single.logits)


class OrdinaryTensors(Callback):
    """Looks for tensors that can never be part of a graph."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        tensors = [pl_module.logits.grad, *pl_module.parameters(), *pl_module.buffers()]
        assert not any(tensor.is_inference() for tensor in tensors)


def seeded(make):
    torch.manual_seed(0)
    return make()


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_chunks_of_every_estimator_equal_single_steps(tmp_path, example):
    size = {"categories": 2 if example.make().binary else 5}
    chunked, single = (
        fit(
            tmp_path,
            5,
            chunk=chunk,
            estimator=seeded(example.make),
            loss=ExpectedKL(epsilon=0.1),
            data=TrueDistribution(seed=1, **size),
            callbacks=[OrdinaryTensors()],
            **size,
        )[0].state_dict()
        for chunk in (3, 1)
    )
    assert chunked.keys() == single.keys()
    assert [name for name, value in chunked.items() if not torch.equal(value, single[name])] == []
    assert all(torch.isfinite(value).all() for value in chunked.values())


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)},
        {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.1)},
        {"lr_scheduler": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)},
    ],
    ids=["momentum", "Adam", "schedule"],
)
def test_chunks_with_any_optimiser_and_schedule_equal_single_steps(tmp_path, options):
    chunked, single = (fit(tmp_path, 12, chunk=chunk, **options)[0] for chunk in (5, 1))
    assert torch.equal(chunked.logits, single.logits)


def test_plain_descent_is_sgd_and_nothing_else():
    p, q = (torch.nn.Parameter(torch.arange(3.0)) for _ in range(2))
    optimizer, reference = torch.optim.SGD([p], lr=0.3), torch.optim.SGD([q], lr=0.3)
    step = plain_descent(optimizer)
    for rate in (0.3, 0.1):
        optimizer.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = rate
        p.grad, q.grad = torch.full((3,), 1 / 3), torch.full((3,), 1 / 3)
        step()
        reference.step()
    assert torch.equal(p, q)
    assert plain_descent(torch.optim.SGD([p, q], lr=0.3)) is None
    assert plain_descent(torch.optim.SGD([p], lr=0.3, weight_decay=0.1)) is None
    assert plain_descent(torch.optim.Adam([p], lr=0.3)) is None
    optimizer.register_step_post_hook(lambda *_: None)
    assert plain_descent(optimizer) is None


@pytest.mark.slow
@pytest.mark.parametrize("data", [TrueDistribution, SingleDraws])
@pytest.mark.parametrize("chunk", [1, 10])
def test_resumed_run_continues_the_same_curve(tmp_path, data, chunk):
    whole, _ = fit(tmp_path / "whole", 60, chunk=chunk, record_every=5, data=data(seed=1))
    fit(tmp_path / "parts", 30, chunk=chunk, record_every=5, data=data(seed=1))
    resumed, trainer = fit(
        tmp_path / "parts", 60, tmp_path / "parts" / "last.ckpt", chunk=chunk, record_every=5, data=data(seed=1)
    )
    assert trainer.global_step == 60
    assert torch.equal(whole.logits, resumed.logits)
    steps, values = whole.curve()
    found = {int(step): value for step, value in zip(*resumed.curve(), strict=True)}
    assert all(torch.equal(found[int(step)], value) for step, value in zip(steps, values, strict=True))


def test_checkpoint_loads_safely_and_remembers_its_options(tmp_path):
    module, _ = fit(tmp_path, 10, estimator=GumbelSoftmax(0.7), loss=ExpectedKL(1e-6), chunk=5)
    loaded = CategoricalFit.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert isinstance(loaded.estimator, GumbelSoftmax)
    assert (loaded.estimator.temperature, loaded.loss.epsilon, loaded.chunk) == (0.7, 1e-6, 5)
    assert torch.equal(loaded.logits, module.logits)


@pytest.mark.slow
def test_tensorboard_axis_is_optimiser_steps_and_pictures_are_there(tmp_path, capsys):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    _, trainer = fit(tmp_path, 40, logger=logger, callbacks=[Figures(every=2), FitReport()], chunk=10)
    events = EventAccumulator(trainer.log_dir).Reload()
    assert {"train/loss", "train/kl", "val/kl", "val/total_variation", "val/entropy"} <= set(events.Tags()["scalars"])
    assert [point.step for point in events.Scalars("train/kl")] == [10, 20, 30, 40]
    assert [point.step for point in events.Scalars("val/kl")] == [10, 20, 30, 40]
    assert "values/probabilities" in events.Tags()["histograms"]
    assert "visual/true_and_learnt" in events.Tags()["images"]
    printed = capsys.readouterr().out
    assert "KL / categories" in printed
    assert all((Path(trainer.log_dir) / name).stat().st_size > 1000 for name in ("curve.png", "true_and_learnt.png"))


def test_options_as_rows_share_a_run(tmp_path):
    together, _ = fit(
        tmp_path,
        20,
        estimator=StraightThrough(temperature=[1.0, 2.0]),
        settings=2,
        data=TrueDistribution(settings=2, paired=True, seed=1),
    )
    assert together.curve()[1].shape[1:] == (2, 5)


@pytest.mark.slow
def test_exact_gradient_of_the_energy_loss_finds_the_distribution(tmp_path):
    seed_everything(0, verbose=False)
    module, _ = fit(
        tmp_path,
        8000,
        estimator=Exact(),
        loss=RBFEnergy(),
        data=SingleDraws(trials=50, seed=7),
        trials=50,
        chunk=1000,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.03),
    )
    assert float(module.curve()[1][-1].mean()) < 0.002


def test_energy_losses_agree_on_corners_and_have_the_right_minimum():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    z = torch.eye(4)[torch.cartesian_prod(torch.arange(4), torch.arange(4))].unsqueeze(1)  # all pairs of draws
    for x in torch.eye(4):
        torch.testing.assert_close(BilinearEnergy()(z, x[None]), RBFEnergy(0.7)(z, x[None]))
    pi = torch.tensor([0.4, 0.3, 0.2, 0.1])
    weights = (pi[:, None] * pi).flatten()
    expected = sum(p[k] * (weights * BilinearEnergy()(z, torch.eye(4)[k : k + 1])[:, 0]).sum() for k in range(4))
    torch.testing.assert_close(expected, (p - pi).square().sum() - p.square().sum())


@pytest.mark.parametrize("loss", [ExpectedKL(), LogLoss()])
def test_closed_form_gradients_equal_autograd(loss):
    z = torch.eye(5, dtype=torch.float64)[torch.tensor([0, 3])].unsqueeze(1).requires_grad_()
    x = torch.rand(2, 5, dtype=torch.float64)
    (expected,) = torch.autograd.grad(loss(z, x).sum(), z)
    torch.testing.assert_close(loss.at(x).closed_form_gradient(z), expected)


def test_single_draws_follow_p_and_do_not_depend_on_the_batch():
    data = SingleDraws(trials=3, seed=5)
    steps = data.targets(0, 20_000)
    z_score = (steps.mean(dim=0) - data.p) / (data.p * (1 - data.p) / 20_000).sqrt()
    assert z_score.abs().max() < 4.5
    assert torch.equal(torch.cat([data.targets(250, 10), data.targets(260, 90)]), steps[250:350])


def test_rows_of_model_and_data_must_agree(tmp_path):
    with pytest.raises(ValueError, match=r"the model has \[4, 5\], the data \[5, 5\]"):
        fit(tmp_path, 1, trials=4)


@pytest.mark.parametrize("options", [{"trials": 0}, {"chunk": 0}, {"settings": -1}])
def test_sizes_are_checked(options):
    with pytest.raises(ValueError, match=r"^CategoricalFit: \w+ must be at least [01]; given"):
        CategoricalFit(LeaveOneOut(), **options)


def test_tensorboard_lists_options_beside_the_result(tmp_path):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    module, trainer = fit(tmp_path, 20, logger=logger, callbacks=[Hyperparameters()], chunk=10)
    events = EventAccumulator(trainer.log_dir).Reload()
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"estimator.step_size" in start
    assert b"estimator" in start
    assert events.Scalars("val/kl")[-1].value == pytest.approx(float(module.curve()[1][-1].mean()))


def test_own_parameters_descend_whatever_the_sign_and_scale_of_the_loss():
    logits = torch.randn(64, 2, 3, requires_grad=True)
    found = {}
    for name, reduce in {"sum": torch.sum, "mean": torch.mean, "negative": lambda loss: -loss.mean()}.items():
        estimator = Rebar(eta=0.3)
        torch.manual_seed(1)
        reduce(estimator(logits, lambda z: (z[..., 0] - 0.4).square().sum(-1))).backward()
        found[name] = estimator.eta.grad.clone()
    torch.manual_seed(1)
    reference = Rebar(eta=0.3)
    _, estimate = reference.estimate(logits, lambda z: (z[..., 0] - 0.4).square().sum(-1))
    (expected,) = torch.autograd.grad(estimate.square().sum(dim=(-2, -1)).mean(), reference.eta)
    torch.testing.assert_close(found["mean"], expected)
    torch.testing.assert_close(found["negative"], expected)
    torch.testing.assert_close(found["sum"], 64 * expected)


def test_average_checks_and_validates_as_the_estimator_inside_it():
    logits, total = torch.randn(3, 1, 5), lambda z: z.sum(dim=(-2, -1))
    assert torch.equal(Average(TopKSubset(2)).value(logits, total), torch.full((3,), 2.0))
    with pytest.raises(ValueError, match="TopKSubset"):
        Average(TopKSubset(9))(logits.requires_grad_(), total)


def test_an_option_for_other_rows_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"step_size holds \[2\] values"):
        fit(tmp_path, 1, estimator=ILS(step_size=[0.1, 0.2]))


@pytest.mark.parametrize("curve", [None, {"steps": torch.ones(2, dtype=torch.long), "values": True}, {"steps": [1]}])
def test_a_curve_that_is_none_is_refused_before_anything_is_trained(tmp_path, curve):
    fit(tmp_path, 2)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"curve": curve}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="the checkpoint's curve must hold steps"):
        fit(tmp_path, 4, tmp_path / "other.ckpt")
