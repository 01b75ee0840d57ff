"""Law 10: inference, saved state, copies, mixed precision, extreme and masked logits."""

import copy
from collections.abc import Callable

import pytest
import torch
from examples import Example, obeying
from problems import quadratic
from simulate import problem_for, settle, size
from torch import Tensor

from ils_lightning.estimators import Estimator, Sampler
from ils_lightning.testing.laws import gradient


def settled(example: Example) -> tuple[Estimator, Tensor, Callable]:
    """An estimator with a history, in training mode, four rows of logits and a loss."""
    estimator = example.make().double()
    problem = problem_for(estimator, "mlp")
    settle(estimator, problem)
    return estimator.train(), problem.logits.expand(4, -1, -1), problem.loss()


@pytest.mark.parametrize("example", obeying("modes"))
def test_inference_mode(example: Example):
    estimator, logits, f = settled(example)
    with torch.inference_mode():
        for loss in (estimator(logits, f), estimator.value(logits, f)):
            assert loss.shape == (4,)
            assert torch.isfinite(loss).all()


@pytest.mark.parametrize("example", [p for p in obeying("simplex") if isinstance(p.values[0].make(), Sampler)])
def test_sample_alone(example: Example):
    estimator, logits, _ = settled(example)
    with torch.inference_mode():
        still = estimator.sample(logits)
    live = estimator.sample(logits.clone().requires_grad_())
    for z in (still, live):
        assert z.shape == logits.shape
        assert ((z >= 0) & (z <= 1)).all()
        assert (z.sum(dim=-1) > 0.999).all()
        assert not estimator.hard or ((z.amax(dim=-1) == 1) & (z.sum(dim=-1) == 1)).all()
    assert live.requires_grad


@pytest.mark.parametrize("example", obeying("simplex"))
def test_value_reports_the_loss_of_hard_draws_and_leaves_no_trace(example: Example):
    estimator, logits, f = settled(example)
    before = copy.deepcopy(estimator.state_dict())
    seen: list[Tensor] = []
    estimator.value(logits, lambda z: seen.append(z) or f(z))
    assert seen[0].shape == (1, *logits.shape)
    assert ((seen[0] == 0) | (seen[0] == 1)).all()
    torch.testing.assert_close(estimator.state_dict(), before, equal_nan=True)


@pytest.mark.parametrize("example", obeying("modes"))
def test_saved_state_and_deep_copies_go_on_alike(example: Example):
    estimator, logits, f = settled(example)
    restored = example.make().double()
    restored.build(*logits.shape[-2:])
    restored.load_state_dict(estimator.state_dict())
    twin = copy.deepcopy(estimator)
    expected = gradient(estimator, logits, f)
    torch.testing.assert_close(gradient(restored, logits, f), expected)
    torch.testing.assert_close(gradient(twin, logits, f), expected)


@pytest.mark.parametrize("example", obeying("modes"))
def test_evaluation_mode_keeps_the_state(example: Example):
    estimator, logits, f = settled(example)
    before = copy.deepcopy(estimator.eval().state_dict())
    gradient(estimator, logits, f)
    torch.testing.assert_close(estimator.state_dict(), before, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("example", obeying("modes"))
def test_mixed_precision(example: Example, dtype: torch.dtype):
    estimator = example.make()
    latents, categories = size(estimator)
    encoder, decoder = torch.nn.Linear(3, latents * categories), torch.nn.Linear(latents * categories, 1)
    with torch.autocast("cpu", dtype=dtype):
        logits = encoder(torch.randn(4, 3)).unflatten(-1, (latents, categories))
        assert logits.dtype == dtype
        loss = estimator(logits, lambda z: decoder(z.flatten(-2)).squeeze(-1).square())
    loss.float().mean().backward()
    for p in (*encoder.parameters(), *decoder.parameters()):
        assert p.grad is not None
        assert torch.isfinite(p.grad).all()
        assert p.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("example", obeying("modes"))
def test_extreme_logits(example: Example, dtype: torch.dtype):
    estimator = example.make().to(dtype if dtype.itemsize > 2 else torch.float32)
    latents, categories = size(estimator)
    logits = torch.zeros(6, latents, categories, dtype=dtype)
    logits[0, :, 0], logits[1, :, 1], logits[2], logits[3] = 1e4, -1e4, 1e4, -1e4
    logits[4] = 1e4 * (-1.0) ** torch.arange(categories)
    grad = gradient(estimator, logits, quadratic(latents, categories).loss())
    assert grad.dtype == dtype
    assert torch.isfinite(grad).all()


def masked_logits(latents: int, categories: int) -> tuple[Tensor, Tensor]:
    """64 rows of logits, about half of their categories masked by -inf, and the mask; at least two stay."""
    logits = torch.randn(64, latents, categories, dtype=torch.float64)
    mask = torch.rand(logits.shape) < 0.5
    mask[..., 1:3] = False
    return logits.masked_fill(mask, -float("inf")), mask


@pytest.mark.parametrize("categories", [5, 20])
@pytest.mark.parametrize("example", [p for p in obeying("modes") if not p.values[0].make().binary])
def test_masked_categories_get_no_gradient(example: Example, categories: int):
    logits, mask = masked_logits(2, categories)
    for seed in range(3):
        grad = gradient(example.make().double(), logits, quadratic(2, categories).loss(), seed)
        assert torch.isfinite(grad).all()
        assert (grad[mask] == 0).all()
        assert (grad[~mask] != 0).any()


@pytest.mark.parametrize("categories", [5, 20])
@pytest.mark.parametrize("example", [p for p in obeying("masked") if not p.values[0].make().binary])
def test_masked_categories_are_never_seen_by_the_loss(example: Example, categories: int):
    logits, mask = masked_logits(2, categories)
    f, seen = quadratic(2, categories).loss(), []
    for seed in range(3):
        gradient(example.make().double(), logits, lambda z: seen.append(z.detach()) or f(z), seed)
    for z in seen:
        assert (z.reshape(-1, 64, 2, categories)[:, mask] == 0).all()
