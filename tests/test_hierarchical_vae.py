"""HierarchicalVAE: nested estimators against autograd through the enumeration of all layers' codes, and its runs."""

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning import seed_everything
from torch.nn.functional import binary_cross_entropy
from trainers import keep_last, quiet_trainer

from ils_lightning.callbacks import RankSeed
from ils_lightning.data import Digits
from ils_lightning.data.images import Images
from ils_lightning.estimators import Exact, GumbelSoftmax, ILSNewton, LeaveOneOut, Rebar, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import enumerate_states, log_softmax
from ils_lightning.estimators.distribution import Categorical
from ils_lightning.modules import HierarchicalVAE, LearntPrior
from ils_lightning.networks import MLP

SHAPE = (1, 2, 2)
LAYERS = {"two": [2, 1], "three": [2, 1, 1]}


def tiny(estimator, latents, categories=2):
    torch.manual_seed(0)
    networks = ("encoder", "decoder", "upper_encoder", "upper_decoder")
    options = {name: MLP([4], activation="tanh") for name in networks} | {"prior": LearntPrior()}
    model = HierarchicalVAE(estimator, latents, categories, image_shape=list(SHAPE), **options).double()
    for parameter in model.parameters():
        parameter.data.mul_(2)
    model.prior.logits.data.normal_()
    return model


def pixels(rows=3):
    return (torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(5)) > 0.5).double()


def enumerated(model, x):
    """-ELBO `[batch]` by autograd through the sum over the codes of all layers."""

    def log_prob(logits, z):
        return (z * log_softmax(logits)).sum(dim=(-2, -1))

    def states(latents):
        return enumerate_states(latents, model.categories, like=x)

    def below(z, layer, log_q, log_p):
        """Sum over the codes of `layer` and above, given those below."""
        if layer == len(model.upper_encoders):
            return log_q.exp() * (log_q - log_p - model.prior.log_prob(z))
        up, down = model.upper_encoders[layer], model.upper_decoders[layer]
        return sum(
            below(
                u := one.expand(*z.shape[:-2], *one.shape),
                layer + 1,
                log_q + log_prob(up(z), u),
                log_p + log_prob(down(u), z),
            )
            for one in states(up.outputs[0])
        )

    logits = model.encoder(x)
    total = torch.zeros(len(x), dtype=x.dtype)
    for one in states(model.latents):
        z = one.expand(len(x), *one.shape)
        total = total + below(z, 0, log_prob(logits, z), model.likelihood.log_prob(model.decoder(z), x))
    return total


@pytest.mark.parametrize("latents", LAYERS.values(), ids=LAYERS)
def test_exact_in_exact_gives_every_layers_gradient(latents):
    model, x = tiny(Exact(), latents), pixels()
    parameters = list(model.parameters())
    expected = enumerated(model, x)
    loss, negative_elbo, _ = model.objective(x)
    torch.testing.assert_close(negative_elbo, expected.detach())
    wanted = torch.autograd.grad(expected.mean(), parameters)
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), wanted)
    assert all(gradient.abs().max() > 0 for gradient in wanted)


def worst_z_score(model, x, copies=100, repeats=200):
    """Largest |z| over the components of all networks' last biases, estimate against enumeration."""
    biases = [model.encoder.layers[-1].bias, model.decoder.layers[-1].bias, model.prior.logits]
    for network in [*model.upper_encoders, *model.upper_decoders]:
        biases.append(network.layers[-1].bias)
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(enumerated(model, x).mean(), biases)])
    many = x.expand(copies, *SHAPE)
    found = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(model.objective(many).loss, biases)])
            for _ in range(repeats)
        ]
    )
    return ((found.mean(dim=0) - wanted) / found.std(dim=0).clamp(min=1e-12) * math.sqrt(repeats)).abs().max()


@pytest.mark.parametrize(("estimator", "biased"), [(LeaveOneOut(2), False), (StraightThrough(), True)])
def test_unbiased_estimators_stay_unbiased_when_nested(estimator, biased):
    score = worst_z_score(tiny(estimator, [2, 1]), pixels(rows=1))
    assert (score > 5) == biased  # 4.5 over a dozen components


def test_without_the_entropy_of_the_first_layer_the_gradient_is_wrong(monkeypatch):
    monkeypatch.setattr(Categorical, "entropy", lambda q: q.logits.sum(dim=-1) * 0)
    assert worst_z_score(tiny(LeaveOneOut(2), [2, 1]), pixels(rows=1)) > 5


def test_draws_agree_with_the_enumerated_elbo_and_bound_it():
    model, x = tiny(ReinMax(), [2, 1, 1]), pixels()
    with torch.no_grad():
        elbo = enumerated(model, x).mean()
        found = [model.evaluate(x, 40) for _ in range(50)]
    values = torch.stack([(one.reconstruction.mean(dim=0) + one.kl.sum(dim=-1)).mean() for one in found])
    weights = torch.stack([one.log_weights.mean() for one in found])
    for estimates in (values, -weights):
        assert abs(estimates.mean() - elbo) / estimates.std() * math.sqrt(50) < 4.5
    bound = torch.stack([(math.log(40) - one.log_weights.logsumexp(dim=0)).mean() for one in found])
    assert bound.mean() < elbo - 5 * bound.std() / math.sqrt(50)
    assert found[0].kl.shape == (3, 3)
    assert found[0].z.shape == (40, 3, 4, 2)


def test_problem_asks_the_last_layer_given_the_same_draws_below():
    model, x = tiny(Exact(), [2, 2, 1]), pixels()
    logits, f, _ = model.problem(Images(x, torch.zeros(3)))
    u = enumerate_states(1, 2, like=x).unsqueeze(1).expand(-1, 3, -1, -1)
    assert logits.shape == (3, 1, 2)
    assert torch.equal(f(u), f(u))
    assert f(u).shape == (2, 3)


def test_layers_have_estimators_of_their_own():
    model = HierarchicalVAE(ILSNewton(decay=0.7), [4, 3, 2], categories=5)
    assert [len(one.S) for one in (model.estimator, *model.upper_estimators)] == [4, 3, 2]
    assert [one.decay for one in model.upper_estimators] == [0.7, 0.7]


@pytest.mark.parametrize("latents", [[], [4], [4, 0]])
def test_bad_layers_are_refused(latents):
    with pytest.raises(ValueError, match="at least two layers of at least 1 latent"):
        HierarchicalVAE(ReinMax(), latents)


def fit(folder, epochs, estimator, resume=None, lr=0.005, **options):
    seed_everything(3, verbose=False)
    options = {"latents": [4, 2], "categories": 3} | options
    model = HierarchicalVAE(estimator(), optimizer=lambda p: torch.optim.Adam(p, lr=lr), **options)
    trainer = quiet_trainer(folder, RankSeed(), keep_last(folder), max_epochs=epochs, limit_train_batches=5)
    trainer.fit(model, datamodule=Digits(), ckpt_path=resume, weights_only=True)
    return model, trainer


@pytest.mark.long
@pytest.mark.parametrize("estimator", [ReinMax, GumbelSoftmax, LeaveOneOut, ILSNewton, partial(Rebar, learnt=False)])
def test_every_kind_of_estimator_learns_codes_in_both_layers(estimator, tmp_path):
    model, trainer = fit(tmp_path, 30, estimator, latents=[8, 4], kl_warmup=100, lr=0.01)
    data = Digits()
    images = torch.cat([batch.x for batch in data.val_dataloader()])
    without_codes = binary_cross_entropy(data.pixel_mean.expand_as(images), images, reduction="sum") / len(images)
    found = trainer.callback_metrics
    assert found["val/loss"] < without_codes - 1
    before = deepcopy(model.state_dict())
    trainer.test(model, datamodule=data, verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_resumed_run_goes_on_and_its_checkpoint_loads(tmp_path):
    whole, _ = fit(tmp_path / "whole", 2, ILSNewton)
    fit(tmp_path / "half", 1, ILSNewton)
    resumed, _ = fit(tmp_path / "half", 2, ILSNewton, resume=tmp_path / "half" / "last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    loaded = HierarchicalVAE.load_from_checkpoint(tmp_path / "half" / "last.ckpt", weights_only=True)
    assert torch.equal(loaded.sample(2, _generator()), resumed.sample(2, _generator()))
    assert set(resumed.figures()) == {"reconstructions", "samples", "traversal"}


def _generator():
    return torch.Generator().manual_seed(0)
