"""Prints how sure relational inference is of its graphs as it trains, as CSV, for the page of graphs.

`python experiments/commitment_table.py > docs/results/commitment.csv` makes its file anew.

5 particles, as in the comparison `relational`. At each mark training pauses: printed are the share of wrong edges and
KL(q || uniform) in nats, at most log 2 an edge, of 32 validation simulations; and what the run's own estimator makes of
the gradient of E f at the logits of 8 training simulations, after 30 steps on them: bias and variance relative to that
gradient, and the cosine of one estimate with it. The gradient is a mean of many estimates of `LeaveOneOut`. "Held" runs
minimise E f + w KL, where w falls in a straight line from 1 000 to 1 in the first 300 steps (`kl_start`).
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from lightning import seed_everything

from ils_lightning.data import Springs
from ils_lightning.data.trajectory_set import Trajectories
from ils_lightning.diagnose import gradient_report
from ils_lightning.estimators import Estimator, ILSJoint, ILSTempered, LeaveOneOut, StraightThrough
from ils_lightning.modules import RelationalInference

MAKE: dict[str, Callable[[], Estimator]] = {
    "StraightThrough": StraightThrough,
    "ILSTempered(2)": lambda: ILSTempered(temperature=2.0),
    "LeaveOneOut(4)": lambda: LeaveOneOut(4),
    "ILSJoint": lambda: ILSJoint(),
    "StraightThrough, held": StraightThrough,
    "ILSJoint, held": lambda: ILSJoint(),
}
PARTICLES, ROWS, HELD = 5, 8, 1000.0


def graphs(model: RelationalInference, seen: Trajectories) -> tuple[float, float]:
    """Share of wrong edges, and KL in nats."""
    with torch.no_grad():
        q = model.estimator.distribution(model.logits(seen.x))
        wrong = model.springs(q.mode()).long() != seen.edges
        return wrong.double().mean().item(), model.prior.kl(q).sum(dim=-1).mean().item()


def gradient(
    model: RelationalInference, batch: Trajectories, estimator: Estimator, draws: int
) -> tuple[float, float, float]:
    """Relative bias and variance of an estimate, and the cosine of one with the gradient."""
    with torch.no_grad():
        logits, f, _ = model.problem(Trajectories(*(part[:ROWS] for part in batch)))
    report = gradient_report(f, logits, {"own": estimator}, draws=draws, limit=2**12, reference_error=0.05)
    (row,) = report.rows
    return row.relative_bias, row.relative_variance, row.cosine_of_one


def follow(name: str, seed: int, marks: list[int], lr: float, draws: int) -> None:
    """Trains a model, and prints a line at every mark."""
    seed_everything(seed, verbose=False)
    data = Springs(particles=PARTICLES, batch_size=32)
    data.setup("fit")
    seen = next(iter(data.val_dataloader()))
    start = HELD if name.endswith(", held") else 1.0
    model = RelationalInference(MAKE[name](), kl_start=start, trajectory_shape=list(data.trajectory_shape))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=250, gamma=0.5)
    step = 0
    while True:
        for batch in data.train_dataloader():
            if step in marks:
                model.eval()
                found = (*graphs(model, seen), *gradient(model, batch, MAKE[name](), draws))
                model.train()
                print(f'"{name}",{seed},{step},' + ",".join(f"{value:.4f}" for value in found), flush=True)
            if step == marks[-1]:
                return
            logits, f, _ = model.problem(batch)
            kl = model.prior.kl(model.estimator.distribution(logits)).sum(dim=-1)
            optimizer.zero_grad()
            (model.estimator(logits, f) + model.kl_weight(step) * kl).mean().backward()
            optimizer.step()
            scheduler.step()
            step += 1


def main(
    runs: list[str] = [*MAKE],  # noqa: B006
    seeds: list[int] = [2],  # noqa: B006
    marks: list[int] = [100, 200, 624],  # noqa: B006
    lr: float = 0.004,
    draws: int = 300,
) -> None:
    """Prints a line for every run, seed and mark.

    Args:
        runs: names of estimators.
        seeds: of weights, simulations and draws.
        marks: steps, ascending.
        lr: of Adam, halved every 250 steps.
        draws: estimates behind a bias and a variance.
    """
    print("run,seed,step,wrong_edges,kl,bias,variance,cosine_of_one")
    for name in runs:
        for seed in seeds:
            follow(name, seed, sorted(marks), lr, draws)


if __name__ == "__main__":
    auto_cli(main)
