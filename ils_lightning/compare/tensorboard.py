"""TensorBoard runs of a comparison: a curve and its options."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ils_lightning import tensorboard_session
from ils_lightning.compare.curves import Curve
from ils_lightning.compare.names import folder_names
from ils_lightning.compare.spec import Comparison, Run
from ils_lightning.compare.table import Row


def write(folder: Path, curves: list[Curve], rows: list[Row], comparison: Comparison) -> None:
    """Writes one TensorBoard run a curve, thinned to 500 points, with its options as hparams."""
    pairs = [(run.name, setting) for run in comparison.runs for setting in run.labels()]
    folders = dict(zip(pairs, folder_names([" ".join(pair).strip() for pair in pairs]), strict=True))
    runs: dict[str, Run] = {run.name: run for run in comparison.runs}
    lines = {(row.run, row.setting): row for row in rows}
    for curve in [curve for curve in curves if curve.finished]:
        line, target = lines[curve.run, curve.setting], folder / folders[curve.run, curve.setting]
        former = list(target.glob("events.out.*"))
        options = {"run": curve.run, "setting": curve.setting or None}
        for key, value in {**runs[curve.run].changes(curve.setting), **curve.outcomes[0].change}.items():
            options |= tensorboard_session.flat(_short(key), value)
        results = {"plateau": line.plateau, "minimum": line.minimum}
        results |= {line.measure: line.measured} if line.measure else {}
        with SummaryWriter(str(target)) as writer:
            tensorboard_session.begin(writer, options)
            for name, value in results.items():
                writer.add_scalar(f"at_end/{name.replace('/', '_')}", value, int(curve.steps[-1]))
            for point in range(0, len(curve.steps), max(len(curve.steps) // 500, 1)):
                writer.add_scalar(curve.tracked.name, curve.mean[point], int(curve.steps[point]))
        for old in former:
            old.unlink(missing_ok=True)


def _short(key: str) -> str:
    """A key of the configuration as `fit` names it in its table.

    Example:
        >>> _short("model.init_args.estimator.init_args.samples"), _short("model.init_args.latents")
        ('estimator.samples', 'model.latents')
    """
    return key.replace(".init_args", "").removeprefix("model.") if "estimator" in key else key.replace(".init_args", "")
