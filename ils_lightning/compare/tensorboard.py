"""TensorBoard runs of a comparison: a curve and its options."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ils_lightning.compare.curves import Curve
from ils_lightning.compare.spec import Comparison, Run
from ils_lightning.compare.table import Row


def write(folder: Path, curves: list[Curve], rows: list[Row], comparison: Comparison) -> None:
    """Writes one TensorBoard run a curve, thinned to 500 points, with its options as hparams."""
    runs: dict[str, Run] = {run.name: run for run in comparison.runs}
    lines = {(row.run, row.setting): row for row in rows}
    for curve in [curve for curve in curves if curve.finished]:
        line, target = lines[curve.run, curve.setting], folder / curve.label.replace(" ", "_").replace("/", "_")
        former = list(target.glob("events.out.*"))
        hparams = {"run": curve.run, "setting": curve.setting, **curve.outcomes[0].change}
        hparams |= {key: str(value) for key, value in runs[curve.run].change.items()}
        results = {"plateau": line.plateau, "minimum": line.minimum}
        results |= {line.measure: line.measured} if line.measure else {}
        with SummaryWriter(str(target)) as writer:
            writer.add_hparams(hparams, results, run_name=".")
            for point in range(0, len(curve.steps), max(len(curve.steps) // 500, 1)):
                writer.add_scalar(curve.tracked.name, curve.mean[point], int(curve.steps[point]))
        for old in former:
            old.unlink(missing_ok=True)
