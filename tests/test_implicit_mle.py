"""Implicit MLE: its expectation on linear losses, and the adaptation of its step."""

import pytest
import torch
from pathwise import per_draw, score, table
from torch import Tensor

from ils_lightning.estimators import AdaptiveImplicitMLE, ImplicitMLE, Pullback
from ils_lightning.estimators.categorical import draw

ROWS = 100_000


def linear_estimates(estimator: Pullback, theta: Tensor, a: Tensor) -> Tensor:
    """Independent estimates `[rows, category]` of f(z) = a.z."""
    logits = theta.expand(ROWS, 1, -1).clone().requires_grad_()
    estimator(logits, lambda z: (z * a).sum(dim=(-2, -1))).sum().backward()
    assert logits.grad is not None
    return logits.grad.squeeze(1)


class ReleasedProgram(ImplicitMLE):
    """Leaves out the division by the scale."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return super().pullback(logits, pi, z, g) * self.scale


class FreshNoise(ImplicitMLE):
    """Draws the second point with noise of its own."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        other = draw(pi)
        return super().pullback(logits, pi, other, g) + (z - other) / self.scale


def test_a_divisor_of_one_is_the_published_program():
    theta, g = table(4)
    estimators = ImplicitMLE(3.0, divisor=1.0), ReleasedProgram(3.0), ImplicitMLE(3.0, divisor=3.0), ImplicitMLE(3.0)
    found = []
    for estimator in estimators:
        torch.manual_seed(0)
        found.append(per_draw(estimator, theta, g, copies=100))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], found[3])
    assert set(found[0].unique().tolist()) == {-1, 0, 1}
    with pytest.raises(ValueError, match="divisor must be greater than 0"):
        ImplicitMLE(divisor=0.0)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_expectation_on_linear_losses(scale: float):
    theta, g = table(4)
    expected = (theta.softmax(dim=-1) - (theta - scale * g[0]).softmax(dim=-1)) / scale
    assert score(linear_estimates(ImplicitMLE(scale), theta, g[0]), expected) < 1
    assert score(linear_estimates(ReleasedProgram(scale), theta, g[0]), expected) > 1


def test_shared_noise_moves_draws_down_the_loss_only():
    theta, g = table(4)
    shared, fresh = (per_draw(e(0.5), theta, g, copies=1000) for e in (ImplicitMLE, FreshNoise))
    assert shared.any()
    assert (torch.einsum("knc,kc->kn", shared, g) >= 0).all()
    assert (torch.einsum("knc,kc->kn", fresh, g) < 0).any()


def test_adaptive_expectation_on_linear_losses():
    theta, g = table(4)
    step = 0.3 * theta.norm() / g[0].norm()
    up, down = ((theta + sign * step * g[0]).softmax(dim=-1) for sign in (1, -1))
    estimates = linear_estimates(AdaptiveImplicitMLE(beta=0.3).double(), theta, g[0])
    assert score(estimates, (up - down) / (2 * step)) < 1
    assert score(-estimates, (up - down) / (2 * step)) > 1


def test_adaptation_happens_in_training_mode_after_the_reading():
    theta, g = table(4)
    logits = theta.expand(500, 1, 4)
    gradients = []
    for training in (True, False):
        estimator = AdaptiveImplicitMLE(rate=0.01).double().train(training)
        torch.manual_seed(4)
        leaf = logits.clone().requires_grad_()
        estimator(leaf, lambda z: (z * g[0]).sum(dim=(-2, -1))).sum().backward()
        gradients.append(leaf.grad)
        assert estimator.beta.item() == pytest.approx(1.01 if training else 1.0)
        assert (estimator.moved.item() != 1.0) == training
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("target", [0.4, 1.0])
def test_beta_settles_where_the_target_share_of_draws_moves(target: float):
    theta, g = table(6)
    estimator = AdaptiveImplicitMLE(rate=0.005, target=target)
    for _ in range(400):
        leaf = theta.float().expand(200, 1, 6).clone().requires_grad_()
        estimator(leaf, lambda z: (z * g[0].float()).sum(dim=(-2, -1))).sum().backward()
    assert estimator.moved.item() == pytest.approx(target, abs=0.1)
    assert estimator.diagnostics()["beta"] == estimator.beta


def test_adaptive_state_is_saved():
    estimator, other = AdaptiveImplicitMLE(beta=0.25), AdaptiveImplicitMLE()
    other.load_state_dict(estimator.state_dict())
    assert other.beta == 0.25


@pytest.mark.parametrize("factor", [1e-3, 65536.0])
def test_adaptive_gradient_follows_a_common_factor(factor: float):
    theta, g = table(4)
    plain, scaled = (AdaptiveImplicitMLE(0.5).double() for _ in range(2))
    gradients = []
    for estimator, c in ((plain, 1.0), (scaled, factor)):
        torch.manual_seed(1)
        leaf = theta.expand(50, 1, 4).clone().requires_grad_()
        (c * estimator(leaf, lambda z: (z * g[0]).sum(dim=(-2, -1)))).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], factor * gradients[0])
    assert gradients[0].any()


def test_zero_beta_and_constant_losses_give_zero_and_zero_logits_move():
    theta, g = table(4)
    zero = torch.zeros_like(theta)
    assert not linear_estimates(AdaptiveImplicitMLE(beta=0.0), theta, g[0]).any()
    assert not linear_estimates(AdaptiveImplicitMLE(), theta, zero).any()
    assert linear_estimates(AdaptiveImplicitMLE(), zero, g[0]).any()


@pytest.mark.slow
def test_the_target_counts_the_entries_of_a_row_over_all_its_latents():
    theta, g = table(6)
    estimator = AdaptiveImplicitMLE(rate=0.005, target=0.5)
    for _ in range(400):
        leaf = theta.float().expand(100, 12, 6).clone().requires_grad_()
        estimator(leaf, lambda z: (z * g[0].float()).sum(dim=(-2, -1))).sum().backward()
    assert estimator.moved.item() == pytest.approx(0.5, abs=0.15)
    with pytest.raises(ValueError, match=r"less than twice the latents.*given 24 with 12 latents"):
        AdaptiveImplicitMLE(target=24.0).check(torch.zeros(1, 12, 6))


@pytest.mark.parametrize(("options", "message"), [({"target": 0.0}, "greater than 0"), ({"beta": -1.0}, "at least 0")])
def test_options_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        AdaptiveImplicitMLE(**options)
