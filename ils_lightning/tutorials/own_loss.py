"""Bring your own loss: `python -m ils_lightning.tutorials.own_loss`.

Four tasks are each to be put on one of three machines, so that the last machine is done as early as possible. A choice
is a categorical variable, its logits are what is learnt, and the loss is any function of the draws.
"""

import torch
from rich.console import Console
from torch import Tensor

from ils_lightning.estimators import Estimator, Exact, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import enumerate_states
from ils_lightning.tables import on_screen

HOURS = torch.tensor([4.0, 3.0, 2.0, 2.0])  # of each task
COPIES = 20_000


def done_after(z: Tensor) -> Tensor:
    """The loss f: hours until all is done, `[samples, *batch]`, of draws z `[samples, *batch, tasks, machines]`.

    That is all an estimator asks for: one-hot draws in, a value for each of them out, rows apart. f may be steep, have
    kinks like this one, or hold a network.
    """
    loads = (z * HOURS[:, None]).sum(dim=-2)  # hours of each machine, [samples, *batch, machines]
    return loads.amax(dim=-1)


def exact(logits: Tensor) -> tuple[Tensor, Tensor]:
    """E f and its gradient, by adding up all 3 ** 4 = 81 states: possible here, and what estimates are held against."""
    leaf = logits.clone().requires_grad_()
    loss = Exact()(leaf, done_after)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def estimates(estimator: Estimator, logits: Tensor) -> Tensor:
    """Many estimates of that gradient, `[copies, tasks, machines]`: rows of a batch draw each for itself."""
    rows = logits.expand(COPIES, -1, -1).clone().requires_grad_()
    estimator(rows, done_after).sum().backward()  # forward returns f of the draws; backward delivers the estimates
    return torch.zeros_like(rows) if rows.grad is None else rows.grad


def trained(estimator: Estimator, logits: Tensor) -> Tensor:
    """E f after 300 steps, each with the mean estimate of eight draws."""
    own = logits.clone().requires_grad_()
    optimizer = torch.optim.Adam([own], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        estimator(own.expand(8, -1, -1), done_after).mean().backward()
        optimizer.step()
    return exact(own.detach())[0]


def main() -> None:
    """Measures three estimators on the loss, and trains with each and with the exact gradient."""
    torch.manual_seed(0)
    logits = torch.randn(4, 3)
    start, gradient = exact(logits)
    table = on_screen()
    for heading in ("estimator", "bias", "noise", "evaluations of f", "E f after training"):
        table.add_column(heading)
    for estimator in (StraightThrough(), ReinMax(), LeaveOneOut(samples=4)):
        found = estimates(estimator, logits)
        bias = (found.mean(dim=0) - gradient).norm() / gradient.norm()
        noise = (found - found.mean(dim=0)).square().sum(dim=(-2, -1)).mean().sqrt() / gradient.norm()
        row = f"{bias:.1%}", f"{noise:.0%}", str(estimator.evaluations(4, 3)), f"{trained(estimator, logits):.2f} hours"
        table.add_row(type(estimator).__name__, *row)
    table.add_row("Exact", "0", "0", "81", f"{trained(Exact(), logits):.2f} hours")
    console = Console()
    console.print(f"Before training, E f is {start:.2f} hours; its gradient has length {gradient.norm():.2f}.")
    console.print(table)
    console.print(
        f"Bias and noise are relative to that length, measured by {COPIES:,} estimates: a bias stays however many are "
        "averaged, the noise of n of them shrinks as 1 / sqrt(n). The best of all plans takes "
        f"{done_after(enumerate_states(4, 3, like=logits)).min():.2f} hours."
    )


if __name__ == "__main__":
    main()
