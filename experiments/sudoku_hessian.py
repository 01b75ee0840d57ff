"""How near `ILSJoint` comes to the gradient where the Hessian is constant: `python experiments/sudoku_hessian.py`.

32 medium Sudoku puzzles, logits as after 100 steps of descent by straight-through. Estimators learn at these logits for
some steps; then 64 estimates are held against the gradient in closed form. Bias and variance are squares, relative to
the gradient's; a bias has the noise of 64 estimates taken off.
"""

import torch
from jsonargparse import auto_cli
from torch import Tensor

from ils_lightning.data import Sudoku
from ils_lightning.diagnose.inputs import check
from ils_lightning.diagnose.target import closed_form
from ils_lightning.estimators import ILSCV, Estimator, ILSJoint, ILSNewton, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.modules import SudokuSolver

ESTIMATES = 64


def logits_and_loss(each: int, seed: int, steps: int = 100) -> tuple[Tensor, SudokuSolver]:
    """The masked logits `[puzzles, 81, 9]` after some steps, and the model."""
    torch.manual_seed(seed)
    data = Sudoku(each=each, grades=["medium"], seed=seed)
    model = SudokuSolver(StraightThrough(), size=[each])
    model.see(data.boards)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model.step_loss(torch.tensor(0)).sum().backward()
        optimizer.step()
    return (model.logits + model.mask).detach(), model


@torch.no_grad()
def measured(estimator: Estimator, logits: Tensor, model: SudokuSolver, learnt: int) -> str:
    """Squared bias, variance and the cosine of one estimate, after so many steps of learning."""
    estimator.build(*logits.shape[-2:])
    target = closed_form(logits, model.loss, check(logits, model.loss))
    assert target is not None
    for _ in range(learnt):
        estimator.estimate(logits, model.loss)
    estimator.eval()
    found = torch.stack([estimator.estimate(logits, model.loss)[1].flatten().double() for _ in range(ESTIMATES)])
    mean, square = found.mean(dim=0), target.gradient.square().sum()
    variance = (found - mean).square().sum() / (ESTIMATES - 1)
    bias = ((mean - target.gradient).square().sum() - variance / ESTIMATES).clamp(min=0)
    cosine = torch.cosine_similarity(found, target.gradient.unsqueeze(0), dim=-1).mean()
    return f"{bias / square:.4f} | {variance / square:.4f} | {cosine:.4f}"


def main(each: int = 32, seed: int = 0) -> None:
    """Prints the table.

    Args:
        each: puzzles.
        seed: of the puzzles and the draws.
    """
    logits, model = logits_and_loss(each, seed)
    print("| estimator | steps learnt | bias^2 | variance | cosine of one |")
    print("| --- | ---: | ---: | ---: | ---: |")
    plain: list[Estimator] = [StraightThrough(), ReinMax(), ILSCV(), LeaveOneOut()]
    for estimator in plain:
        print(f"| `{estimator!r}` | 0 | {measured(estimator, logits, model, 0)} |", flush=True)
    for steps in (30, 300):
        print(f"| `ILSNewton` | {steps} | {measured(ILSNewton(), logits, model, steps)} |", flush=True)
        print(f"| `ILSJoint` | {steps} | {measured(ILSJoint(), logits, model, steps)} |", flush=True)
    for decay, steps in ((0.9, 300), (0.99, 300), (0.999, 300), (0.999, 1000)):
        own = ILSJoint(decay=decay, base=0.0)
        print(f"| `ILSJoint(decay={decay}, base=0)` | {steps} | {measured(own, logits, model, steps)} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
