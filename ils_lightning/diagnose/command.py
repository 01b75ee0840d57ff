"""The verb `diagnose`: a Trainer's method, so that model, data, checkpoint and device are given as for `fit`."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from rich.console import Console

from ils_lightning import atomic, plots
from ils_lightning.diagnose import figure, tables
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.named import default_estimators, name_of
from ils_lightning.diagnose.page import page
from ils_lightning.diagnose.problems import coupling_in_training, problem_of
from ils_lightning.diagnose.report import gradient_report
from ils_lightning.diagnose.rows import GradientReport
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.numbered import own_folder
from ils_lightning.set_up import set_up


class DiagnosingTrainer(Trainer):
    """A Trainer that can also measure gradient estimators on a model."""

    configuration = ""
    """What was measured, in YAML, for the page."""

    def diagnose(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None = None,
        estimators: list[Estimator] | None = None,
        draws: int = 10_000,
        rows: int = 16,
        average: int = 100,
        exact: Literal["auto", "yes", "no"] = "auto",
        limit: int = 2**20,
        settle: int = 30,
        draw_seed: int = 0,
        title: str | None = None,
        beside: list[Path] | None = None,
        folder: Path | None = None,
        weights_only: bool = True,
    ) -> GradientReport:
        """Measures which estimator serves a model's loss best, at its present parameters, on its first training batch.

        Args:
            model: the model; its own estimator is measured with the others.
            datamodule: the data.
            ckpt_path: checkpoint; the model as it is before training unless given.
            estimators: names or settings of estimators; all of them, as recommended, unless given. May be repeated.
            draws: estimates by each.
            rows: rows of the batch to measure on.
            average: evaluations of f whose estimates are averaged in training, over rows, batch and steps: estimators
                are ranked by the error of such an average. Few favour low variance, many low bias.
            exact: whether to enumerate all categories ** latents states: auto does up to `limit` of them. A loss
                that knows its expectation is asked for it instead, unless no.
            limit: most states to enumerate.
            settle: steps that estimators which learn do so before they are measured.
            draw_seed: of all draws.
            title: of the report.
            beside: folders of earlier reports to draw in the same figure, before this one; of several in a folder the
                last one. May be repeated.
            folder: where to write, over a report that is there; unless given the next free version_N in
                lightning_logs/diagnose/TITLE, so that each report is kept.
            weights_only: read nothing but weights and plain data from the checkpoint.
        """
        for name, value in {"rows": rows, "limit": limit}.items():
            if value < 1:
                raise Refusal(f"--{name} must be at least 1; given {value}")
        others = [tables.read(one) for one in beside or []]
        title = title or f"{type(model).__name__} on {type(datamodule).__name__}"
        above = Path("lightning_logs") / "diagnose" / "_".join(title.split()).replace("/", "-")
        batch = self._prepare(model, datamodule, ckpt_path, weights_only)
        with own_folder(folder, above) as place:
            with torch.random.fork_rng():
                remark = coupling_in_training(model, batch)
            with torch.random.fork_rng(), problem_of(model, batch, rows) as (logits, f, own):
                report = gradient_report(
                    f,
                    logits,
                    _with_own(estimators, own),
                    draws,
                    {"auto": "auto", "yes": True, "no": False}[exact],
                    average,
                    settle,
                    limit,
                    seed=draw_seed,
                    title=title,
                    progress=True,
                    ones=own.ones if own is not None else 1,
                )
            report.remark = "\n".join(filter(None, [remark, report.remark]))
            write(report, place, others, self.configuration)
        return report

    def _prepare(self, model: Any, datamodule: Any, ckpt_path: str | None, weights_only: bool) -> Any:
        """Sets model and data up as for training, loads the checkpoint, and returns the first training batch."""
        set_up(self, model, datamodule, ckpt_path, weights_only)
        return move_data_to_device(next(iter(datamodule.train_dataloader())), self.strategy.root_device)


def _with_own(estimators: list[Estimator] | None, own: Estimator | None) -> dict[str, Estimator]:
    """The estimators by name, the model's own among them with the state it has."""
    named = default_estimators() if estimators is None else {name_of(one): one for one in estimators}
    if own is None:
        return named
    name = name_of(own)
    return {f"{name} (the model's)": own} | {key: one for key, one in named.items() if key != name}


def write(report: GradientReport, folder: Path, others: list[GradientReport], configuration: str = "") -> None:
    """Prints the table and the advice, and writes CSV, JSON, HTML and the figure."""
    console = Console()
    tables.show(report, console)
    plots.save(figure.draw([*others, report]), folder / "figure")
    atomic.write_text(tables.comma_separated(report), folder / "report.csv")
    atomic.write_text(tables.to_json(report), folder / "report.json")
    atomic.write_text(page(report, configuration), folder / "report.html")
    console.print(f"table, figure and page are in {folder}", highlight=False, soft_wrap=True)
    console.print(advice(report), highlight=False, markup=False)
