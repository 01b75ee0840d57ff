"""Numbers at the edge: any shape, dtype, mask and size of logits gives finite answers and leaves finite state."""

import math
import os
from dataclasses import dataclass

import pytest
import torch
from examples import Example, obeying
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import quadratic
from torch import Tensor

from ils_lightning.estimators import Estimator

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
HOSTILE = st.one_of(st.floats(-1e4, 1e4), st.sampled_from([0.0, 1e-30, 1.0, 88.8, -88.8, 709.8, 1e4, -1e4]))


CASES = int(os.environ.get("EDGE_CASES", "12"))  # for each estimator


@dataclass(frozen=True)
class Case:
    """Logits, and a seed for the draws."""

    logits: Tensor
    seed: int


@st.composite
def cases(draw: st.DrawFn, example: Example) -> Case:
    """Batches of 0 rows to 9, alike or not, of up to 3 latents and 6 categories, some of them masked."""
    least = 2 if example.name in ("TopKSubset-2", "TopKReinMax-2") else 1
    categories = 2 if example.make().binary else draw(st.integers(least, 6))
    batch = draw(st.sampled_from([(), (1,), (3,), (0,), (2, 3), (3, 0)]))
    shape = (*batch, draw(st.integers(1, 3)), categories)
    rows = (*((1,) * len(batch) if draw(st.booleans()) else batch), *shape[-2:])
    count = math.prod(rows)
    values = torch.tensor(draw(st.lists(HOSTILE, min_size=count, max_size=count)), dtype=torch.float64)
    masks = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool).reshape(rows)
    masks[..., :least] = False
    masks = torch.zeros_like(masks) if example.make().binary or draw(st.booleans()) else masks
    logits = values.reshape(rows).masked_fill(masks, -float("inf")).expand(shape)
    # pullback="none" divides by pi + 1e-7, which float16 cannot hold
    dtype = draw(st.sampled_from(DTYPES[: 3 if example.name == "ILS-natural" else 4]))
    return Case(logits.to(dtype).clone(), draw(st.integers(0, 1000)))


def assert_finite(estimator: Estimator) -> None:
    gradients = [p.grad for p in estimator.parameters() if p.grad is not None]
    for x in (*estimator.state_dict().values(), *gradients, *estimator.diagnostics().values()):
        assert torch.isfinite(x).all()


def try_case(estimator: Estimator, logits: Tensor) -> None:
    """Two steps, so that what the first has taught is used, and a validation."""
    f = quadratic(*logits.shape[-2:]).loss()
    for _ in range(2):
        leaf = logits.clone().requires_grad_()
        loss = estimator(leaf, f)
        loss.sum().backward()
        assert leaf.grad is not None
        assert loss.shape == logits.shape[:-2]
        assert torch.isfinite(loss).all()
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad[logits == -float("inf")] == 0).all()
        assert_finite(estimator)
    assert torch.isfinite(estimator.value(logits, f)).all()


@pytest.mark.parametrize("example", obeying("edges"))
def test_any_logits_give_finite_answers(example: Example) -> None:
    @settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(cases(example))
    def holds(case: Case) -> None:
        torch.manual_seed(case.seed)
        dtype = case.logits.dtype
        try_case(example.make().to(dtype if dtype.itemsize > 2 else torch.float32), case.logits)

    holds()
