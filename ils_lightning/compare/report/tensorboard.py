"""TensorBoard runs of a comparison: a curve and its options."""

from collections.abc import Iterable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ils_lightning import tensorboard_session
from ils_lightning.compare.grid.names import folder_names
from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.report import table, wide
from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.report.table import Row
from ils_lightning.figure_text import plain
from ils_lightning.modules import Tracked


def write(folder: Path, curves: list[Curve], rows: list[Row], comparison: Comparison) -> None:
    """Writes one TensorBoard run a curve, thinned to 500 points, with its options as hparams, and the table as text."""
    _write_text(folder, {"table": table.markdown(rows), "ranking": wide.markdown(rows)}, comparison.title)
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
            owner = _model(comparison, runs[curve.run], curve.setting)
            tracked = f"{owner}-{curve.tracked.name}"
            ends = {f"{owner}-at_end/{name.replace('/', '_')}": value for name, value in results.items()}
            writer.add_custom_scalars(_layout(owner, curve.tracked, ends))
            for tag, value in ends.items():
                writer.add_scalar(tag, value, int(curve.steps[-1]))
            for point in range(0, len(curve.steps), max(len(curve.steps) // 500, 1)):
                writer.add_scalar(tracked, curve.mean[point], int(curve.steps[point]))
        for old in former:
            old.unlink(missing_ok=True)


def _write_text(folder: Path, tables: dict[str, str], title: str) -> None:
    former = list(folder.glob("events.out.*"))
    with SummaryWriter(str(folder)) as writer:
        for name, text in tables.items():
            writer.add_text(name, f"{plain(title)}\n\n{text}")
    for old in former:
        old.unlink(missing_ok=True)


def _model(comparison: Comparison, run: Run, setting: str) -> str:
    """The bare name of the class that was trained: what one model calls its loss is not what another does."""
    described = comparison.configuration(run, comparison.seeds[0], setting)["model"]["class_path"]
    return described.rpartition(".")[-1]


def _layout(owner: str, tracked: Tracked, ends: Iterable[str]) -> dict[str, dict[str, list]]:
    """Charts of the curve and of what it came to."""
    results = {tag.rpartition("/")[-1].replace("_", " "): ["Multiline", [f"{tag}$"]] for tag in ends}
    curve = {tracked.label: ["Multiline", [f"{owner}-{tracked.name}$"]]}
    return {f"{owner}: curve": curve, f"{owner}: at the end": results}


def _short(key: str) -> str:
    """A key of the configuration as `fit` names it in its table.

    Example:
        >>> _short("model.init_args.estimator.init_args.samples"), _short("model.init_args.latents")
        ('estimator.samples', 'model.latents')
    """
    return key.replace(".init_args", "").removeprefix("model.") if "estimator" in key else key.replace(".init_args", "")
