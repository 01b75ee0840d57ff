"""Masks of -inf: unlike numbers of categories a latent, in KL, entropy, metrics, models and measurements."""

import math

import pytest
import torch
from examples import EXAMPLES, Example
from torch import Tensor

from ils_lightning.callbacks.gradient_probe import GradientProbe
from ils_lightning.data.images import Images
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.problems import problem_of
from ils_lightning.estimators import Exact, LeaveOneOut, ReinMax
from ils_lightning.estimators.categorical import entropy, enumerate_states, log_prob, softmax
from ils_lightning.modules import DiscreteVAE, HierarchicalVAE, LearntPrior, UniformPrior
from ils_lightning.networks import MLP

SHAPE = (1, 2, 2)
MASK = torch.tensor([[False, False, True, True], [False, False, False, True]])  # two categories, and three
INF = float("inf")


class Masking(MLP):
    """Gives the first latent two categories, the next three; any further ones have all four."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return torch.cat([logits[..., :2, :].masked_fill(MASK, -INF), logits[..., 2:, :]], dim=-2)


def model_of(estimator, kind: type = DiscreteVAE, **options):
    torch.manual_seed(0)
    networks = {"encoder": Masking([4], activation="tanh"), "decoder": MLP([4], activation="tanh")}
    options = {"categories": 4, "image_shape": list(SHAPE), "prior": LearntPrior(), **networks} | options
    return kind(estimator, **options).double()


def pixels(rows: int = 6) -> Tensor:
    return (torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(5)) > 0.5).double()


def test_kl_and_entropy_of_a_masked_latent():
    logits = torch.tensor([[0.0, 0.0, -INF]], requires_grad=True)
    prior = UniformPrior()
    prior.build(1, 3)
    kl = prior.kl(logits)
    torch.testing.assert_close(kl, torch.tensor([math.log(3) - math.log(2)]))
    assert torch.autograd.grad(kl.sum(), logits)[0].tolist() == [[0, 0, 0]]
    (slope,) = torch.autograd.grad(entropy(softmax(logits)).sum(), logits)
    assert slope.tolist() == [[0, 0, 0]]


def test_entropy_and_kl_of_one_category():
    for logits in (torch.tensor([[0.0, -INF]]), torch.tensor([[0.0, -1e4]]), torch.tensor([[1e4, -1e4]])):
        leaf = logits.requires_grad_()
        prior = UniformPrior()
        prior.build(1, 2)
        total = entropy(softmax(leaf)).sum() + prior.kl(leaf).sum()
        assert total.item() == pytest.approx(math.log(2))
        assert torch.autograd.grad(total, leaf)[0].tolist() == [[0, 0]]


def test_slope_of_log_prob_in_z_is_that_of_every_category():
    """Also of those not drawn: a pathwise estimator asks for them."""
    logits = torch.tensor([0.3, -1.0, -INF])
    z = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(log_prob(logits, z), z)
    torch.testing.assert_close(slope, torch.cat([logits[:2].log_softmax(dim=0), torch.zeros(1)]))
    assert log_prob(logits, torch.tensor([0.0, 0.0, 1.0])) == -INF


def test_a_prior_that_cannot_draw_what_the_posterior_does_is_named():
    prior = LearntPrior()
    prior.build(2, 3)
    prior.logits.data[1, 2] = -INF
    logits = torch.zeros(4, 2, 3)
    assert prior.kl(logits)[:, 1].tolist() == [INF] * 4
    assert prior.kl(logits)[:, 0].tolist() == [0] * 4
    model = model_of(ReinMax(), latents=2)
    model.prior.logits.data[1, 2] = -INF
    with pytest.raises(ValueError, match="LearntPrior gives probability 0 to category 2 of latent 1"):
        model.objective(pixels())
    model.prior.logits.data[1, 2] = 0
    model.prior.logits.data[MASK] = -INF
    loss = model.objective(pixels()).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(model.prior.logits.grad).all()
    assert not (model.sample_prior(500) * MASK).any()


def test_exact_training_is_the_sum_over_the_codes_that_are_there():
    model, x = model_of(Exact(), latents=2), pixels()
    logits = model.encoder(x)
    codes = enumerate_states(2, 4, like=logits)
    codes = codes[~(codes * MASK).any(dim=(-2, -1))]
    assert len(codes) == 6
    states = codes.unsqueeze(1).expand(-1, len(x), -1, -1)
    log_q = (states * logits.log_softmax(dim=-1).masked_fill(MASK, 0)).sum(dim=(-2, -1))
    log_joint = model.likelihood.log_prob(model.decoder(states), x) + model.prior.log_prob(states)
    expected = (log_q.exp() * (log_q - log_joint)).sum(dim=0)
    found = model.objective(x)
    torch.testing.assert_close(found.negative_elbo, expected.detach())
    parameters = list(model.parameters())
    wanted = torch.autograd.grad(expected.mean(), parameters)
    torch.testing.assert_close(torch.autograd.grad(found.loss, parameters), wanted)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if not one.make().binary], ids=str)
def test_a_vae_of_unlike_latents_trains_and_is_measured(example: Example):
    model, x = model_of(example.make(), latents=3), pixels()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        found = model.objective(x)
        found.loss.backward()
        assert torch.isfinite(found.negative_elbo).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert model.encoder.layers[-1].bias.grad.abs().max() > 0
        optimizer.step()
    with torch.no_grad():
        measured = model.evaluate(x, 5)
    assert not (measured.z[..., :2, :] * MASK).any()
    assert torch.isfinite(measured.log_weights).all()
    model.metrics.add(measured, 5, 5)
    assert all(torch.isfinite(value) for value in model.metrics.take().values())


def test_layers_may_mask():
    options = {"latents": [2, 2], "upper_encoder": Masking([4], activation="tanh")}
    model, x = model_of(LeaveOneOut(), HierarchicalVAE, **options), pixels()
    found = model.objective(x)
    found.loss.backward()
    assert torch.isfinite(found.negative_elbo).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    measured = model.evaluate(x, 50)
    assert torch.isfinite(measured.kl).all()
    assert torch.isfinite(measured.log_weights).all()


def test_probe_and_report_measure_masked_problems():
    model, batch = model_of(ReinMax(), latents=2), Images(pixels(), torch.zeros(6))
    with problem_of(model, batch, 3) as problem, torch.no_grad():
        probe = GradientProbe(rivals=[LeaveOneOut()], draws=256)
        truth = probe._truth(problem)
        assert truth is not None
        values = probe._values(problem, truth)
    assert len(values) == 8
    assert values["gradient/LeaveOneOut/cosine"] == pytest.approx(1, abs=0.3)
    report = gradient_report(problem.loss, problem.logits, ["LeaveOneOut", "ReinMax", "Exact"], draws=500)
    assert [row.not_applicable for row in report.rows] == [""] * 3
    assert all(math.isfinite(row.relative_bias) for row in report.rows)
