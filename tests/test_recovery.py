"""What an estimator has learnt survives one batch out of all proportion, and thousands of steps that teach nothing."""

import copy

import pytest
import torch
from examples import EXAMPLES, Example
from torch import Tensor

from ils_lightning.diagnose.replicates import learns
from ils_lightning.estimators import Estimator, ILSDiagonal, ILSLeaveOneOut, ILSTemperedDiagonal, ils_diagonal, usual
from ils_lightning.estimators.usual import judge, nothing_seen
from ils_lightning.variables import ILSNatural, Poisson

LATENTS, WARM, ORDINARY = 2, 30, 5


def categories(estimator: Estimator) -> int:
    return 2 if estimator.binary else 4


def remembers(example: Example) -> bool:
    estimator = example.make()
    estimator.build(LATENTS, categories(estimator))
    return learns(estimator)


STATEFUL = [example for example in EXAMPLES if remembers(example)]
POOLED = [example for example in STATEFUL if example.make().pooled_by_state]
DIAGONAL = (ILSDiagonal, ILSTemperedDiagonal, ILSLeaveOneOut)


class Training:
    """An estimator on a loss whose rows differ, its own parameters in Adam as a model's would be."""

    def __init__(self, example: Example, rows: int) -> None:
        torch.manual_seed(1)
        self.estimator = example.make()
        K = categories(self.estimator)
        self.estimator.build(LATENTS, K)
        own = list(self.estimator.parameters())
        self.optimizer = torch.optim.Adam(own, lr=0.01) if own else None
        self.logits, self.x = torch.randn(rows, LATENTS, K), torch.randn(rows, 8)
        self.W, self.v = 0.8 * torch.randn(LATENTS * K, 8), torch.randn(8)

    def loss(self, z: Tensor) -> Tensor:
        return torch.tanh(z.flatten(-2) @ self.W + self.x) @ self.v

    def steps(self, count: int, logits: Tensor | None = None, scale: float = 1.0) -> "Training":
        for _ in range(count):
            leaf = (self.logits if logits is None else logits).clone().requires_grad_()
            self.estimator.zero_grad()
            self.estimator(leaf, lambda z: scale * self.loss(z)).mean().backward()
            if self.optimizer is not None:
                self.optimizer.step()
        return self

    def size(self) -> float:
        """Root mean square of thirty gradients in the present state."""
        frozen, squares = copy.deepcopy(self.estimator).eval(), []
        torch.manual_seed(9)
        for _ in range(30):
            leaf = self.logits.clone().requires_grad_()
            frozen(leaf, self.loss).sum().backward()
            assert leaf.grad is not None
            squares.append(leaf.grad.double().square().mean())
        return torch.stack(squares).mean().sqrt().item()

    def settled(self, apart: float) -> Tensor:
        """Logits that leave no doubt about the category which is now the likeliest."""
        return torch.zeros_like(self.logits).scatter_(-1, self.logits.argmax(dim=-1, keepdim=True), apart)


def after_one_batch(example: Example, scale: float, warm: int = WARM) -> float:
    """Size of the gradients five steps after one batch of `scale` times the loss, relative to that without it."""
    usual_size = Training(example, rows=64).steps(WARM).size()
    return Training(example, rows=64).steps(warm).steps(1, scale=scale).steps(ORDINARY).size() / usual_size


def after_settled_rows(example: Example, apart: float, steps: int) -> float:
    """The same after steps whose rows are settled."""
    usual_size, training = Training(example, rows=16).steps(WARM).size(), Training(example, rows=16)
    return training.steps(steps, training.settled(apart)).steps(ORDINARY).size() / usual_size


def ids(example: Example) -> str:
    return example.name


@pytest.mark.slow
@pytest.mark.parametrize("warm", [WARM, 0], ids=["amid training", "as the first batch"])
@pytest.mark.parametrize("scale", [1e3, 1e15])
@pytest.mark.parametrize("example", STATEFUL, ids=ids)
def test_recovers_from_one_batch_out_of_all_proportion(example: Example, scale: float, warm: int):
    assert 1 / 3 < after_one_batch(example, scale, warm) < 3


@pytest.mark.slow
@pytest.mark.parametrize("warm", [WARM, 0], ids=["amid training", "as the first batch"])
@pytest.mark.parametrize("example", POOLED, ids=ids)
def test_would_not_recover_if_such_a_batch_were_believed(example: Example, warm: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(usual, "RATIO", float("inf"))
    assert after_one_batch(example, 1e8, warm) > 100


@pytest.mark.slow
@pytest.mark.parametrize("apart", [6.0, 12.0])
@pytest.mark.parametrize("example", STATEFUL, ids=ids)
def test_recovers_from_settled_rows(example: Example, apart: float):
    assert 1 / 3 < after_settled_rows(example, apart, steps=200) < 3


@pytest.mark.long
@pytest.mark.parametrize("example", STATEFUL, ids=ids)
def test_recovers_from_ten_thousand_settled_steps(example: Example):
    assert 1 / 3 < after_settled_rows(example, 30.0, steps=10_000) < 3


@pytest.mark.parametrize("example", [e for e in STATEFUL if isinstance(e.make(), DIAGONAL[:2])], ids=ids)
def test_diagonal_curvature_would_grow_while_rows_are_settled(example: Example, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ils_diagonal, "HELD_BACK", 0.0)
    assert after_settled_rows(example, 12.0, steps=300) > 10


def sizes_learnt(sizes: list[float]) -> list[bool]:
    """Which of these steps are learnt from."""
    recent, level = nothing_seen(1)
    sound = torch.tensor(True)
    return [bool(judge(recent, level, torch.tensor([x], dtype=torch.float64), 0.9, sound)[1]) for x in sizes]


def test_a_lasting_change_of_scale_is_learnt_from_at_its_fourth_step():
    assert sizes_learnt([1.0] * 10 + [1e6] * 6) == [True] * 10 + [False] * 3 + [True] * 3


def test_a_lasting_fall_is_forgotten_once_and_learnt_from_afterwards():
    assert sizes_learnt([1e6] * 10 + [1.0] * 8) == [True] * 13 + [False] + [True] * 4


def test_what_varies_tenfold_is_always_learnt_from():
    assert all(sizes_learnt([1.0, 9.0, 3.0, 1.5, 8.0, 0.0, 1.0, 9.5, 0.0, 0.0, 2.0]))


def test_not_finite_or_empty_steps_teach_nothing_and_leave_no_trace():
    assert sizes_learnt([1.0, float("nan"), 1.0, float("inf"), 1.0]) == [True, False, True, False, True]


def natural(scales: list[float]) -> Tensor:
    """Gradients of the last of some steps of `ILSNatural`, whose losses have these scales."""
    torch.manual_seed(0)
    estimator, theta = ILSNatural(Poisson()), torch.zeros(64, 2, requires_grad=True)
    for scale in scales:
        theta.grad = None
        estimator(theta, lambda x, scale=scale: scale * (x - 3.0).square().sum(dim=-1)).sum().backward()
    assert theta.grad is not None
    return theta.grad


@pytest.mark.parametrize("when", [0, 14])
def test_other_variables_recover_too(when: int):
    steps = [1e12 if step == when else 1.0 for step in range(20)]
    assert natural(steps).norm() < 3 * natural([1.0] * 20).norm()
