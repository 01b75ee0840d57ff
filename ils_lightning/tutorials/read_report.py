"""Read a report: `python -m ils_lightning.tutorials.read_report`.

`gradient_report` measures estimators on a loss at given logits. Here on the model of `own_encoder`, before training.
"""

from pathlib import Path

import torch

from ils_lightning import plots
from ils_lightning.data import Digits
from ils_lightning.diagnose import GradientReport, gradient_report
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.figure import draw
from ils_lightning.tutorials.own_encoder import Autoencoder

ESTIMATORS = ["StraightThrough", "ReinMax", "ILSNewton", "LeaveOneOut"]


def report_of(model: Autoencoder, rows: int = 8) -> GradientReport:
    """Asks the model for its problem on a few rows, and measures; the model stays as it is."""
    batch = next(iter(Digits(batch_size=rows, binarize="none").train_dataloader()))
    with torch.no_grad():
        logits, f, _ = model.problem(batch)
    return gradient_report(f, logits, ESTIMATORS, draws=2_000, average=100, title="autoencoder of the digits")


def sentences(report: GradientReport) -> list[str]:
    """What a report says of the problem, and of its best row column by column."""
    best = report.rows[0]
    bias, low, high = best.relative_bias, best.relative_bias_low, best.relative_bias_high
    most, cosine = max(best.cosines.items())
    return [
        f"Measured on {report.batch} rows of {report.latents} latents with {report.categories} categories each, where "
        f"E f is {report.loss:.2f}. The gradient that estimates are held against: {report.truth}.",
        f"error: the rows are ordered by it. {best.name} comes first with {best.error:.1%}: as far, relative to the "
        f"gradient's length, is the average of the estimates that {report.average} evaluations of f buy.",
        f"bias: {bias:.1%} of that length is how far the mean of ever more estimates of {best.name} stays away; with "
        f"95 per cent confidence it is {low:.1%} to {high:.1%}.",
        f"variance: {best.relative_variance:.3g}, relative to the squared length: one estimate scatters by "
        f"{best.noise:.0%} of the length, the average of n by a root of n less.",
        f"cosine of one: {best.cosine_of_one:.2f}, the direction of a single estimate, 1 being that of the gradient; "
        f"the average of {most} has {cosine:.2f}.",
        f"evaluations: {best.evaluations} of f for an estimate, so variance times cost is "
        f"{best.variance_times_cost:.3g}: what noise costs to average away.",
        f"The best fits this budget only. {advice(report)}",
    ]


def main(folder: Path = Path("lightning_logs/tutorials")) -> None:
    """Prints rows and sentences, and draws the figure."""
    torch.manual_seed(0)
    report = report_of(Autoencoder(estimator="ReinMax"))  # pyright: ignore[reportArgumentType]
    for row in report.rows:
        print(
            f"{row.name:<16} error {row.error:6.1%}   bias {row.relative_bias:6.1%}   "
            f"variance {row.relative_variance:6.3g}   evaluations {row.evaluations}"
        )
    print(*sentences(report), sep="\n\n")
    folder.mkdir(parents=True, exist_ok=True)
    written = plots.save(draw([report]), folder / "report")
    print(
        f"\nThe figure is {written[0]}: above, bias to the right and noise upwards, good is low and left; below, "
        "how fast averages turn into the direction of the gradient."
    )


if __name__ == "__main__":
    main()
