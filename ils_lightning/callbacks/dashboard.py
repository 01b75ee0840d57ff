"""What a run's TensorBoard is read by: a layout of its charts, its configuration, and its estimator's formula."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.describe import in_words
from ils_lightning.formula import formulas
from ils_lightning.modules.base import Charts, DiscreteModule


class Dashboard(Callback):
    """Writes, once when training starts, the tabs Custom Scalars and Text; silent under other loggers.

    Charts are the module's own (`DiscreteModule.charts`), those of callbacks that declare some by an attribute of the
    same name, and one for each diagnostic of the estimator. Runs of several models share the page, so the module's are
    under its name, as are the tags that the command line's logger writes (`DiscreteVAE-val/loss`). A run resumed in its
    own folder has them already.

    Args:
        configuration: YAML to show; the module's options unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> from ils_lightning.modules import CategoricalFit
        >>> list(layout(CategoricalFit(ReinMax()), []))
        ['CategoricalFit: objective', 'CategoricalFit: learnt distribution', 'CategoricalFit: training']
    """

    def __init__(self, configuration: str = "") -> None:
        self.configuration = configuration
        self._written_in = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, unless the checkpoint that is resumed was written in the same folder."""
        place = trainer.log_dir  # all ranks take part in this
        folder = str(Path(place).absolute()) if place else ""
        writers = [one for one in trainer.loggers if isinstance(one, TensorBoardLogger)]
        if not isinstance(pl_module, DiscreteModule) or folder == self._written_in or not writers:
            return
        self._written_in = folder
        charts = layout(pl_module, trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
        for writer in writers if trainer.is_global_zero else []:
            self._write(writer.experiment, charts, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds what a reader of the curves must know, if anything."""
        note = pl_module.note() if isinstance(pl_module, DiscreteModule) else ""
        for writer in trainer.loggers if note and trainer.is_global_zero else []:
            if isinstance(writer, TensorBoardLogger):
                writer.experiment.add_text("note", note, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"written_in": self._written_in}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._written_in = state_dict["written_in"]

    def _write(self, writer: Any, charts: Charts, module: DiscreteModule) -> None:
        owner = type(module).__name__
        writer.add_custom_scalars({name: multiline(group, owner) for name, group in charts.items()})
        text = self.configuration or yaml.safe_dump(_plain(module), sort_keys=False)
        writer.add_text("run_configuration", f"```yaml\n{text.strip()}\n```")
        if module.estimator is not None:
            writer.add_text("estimator", formulas(module.estimator))


def layout(module: DiscreteModule, callbacks: list[Callback]) -> dict[str, dict[str, list[str]]]:
    """Returns charts by category and title, each the tags (regular expressions) that are drawn together."""
    owner, own = type(module).__name__, module.charts or _default(module.monitor)
    declared: list[Charts] = [{f"{owner}: {category}": group for category, group in own.items()}]
    declared += [getattr(one, "charts", {}) for one in callbacks]
    if module.estimator is not None:
        diagnostics = {name.replace("_", " "): [f"train/{name}"] for name in module.estimator.diagnostics()}
        declared += [{"estimator": diagnostics}] if diagnostics else []
    found: dict[str, dict[str, list[str]]] = {}
    for charts in declared:
        for category, group in charts.items():
            found.setdefault(category, {}).update({title: list(tags) for title, tags in group.items()})
    return found


def _default(monitor: str) -> Charts:
    """The monitored quantity and the loss, in training and validation."""
    names = dict.fromkeys([monitor.removeprefix("val/"), "loss"])
    return {"objective": {name: [f"train/{name}", f"val/{name}"] for name in names}}


def multiline(group: Mapping[str, Sequence[str]], owner: str) -> dict[str, list[Any]]:
    """Charts of one category in the writer's form, of tags that may begin with the name of the model, `owner`.

    TensorBoard looks at how tags begin, so their end is marked.

    Example:
        >>> multiline({"error": ["val/error"]}, "Router")
        {'error': ['Multiline', ['(Router-)?val/error$']]}
    """
    return {title: ["Multiline", [f"({owner}-)?{tag}$" for tag in tags]] for title, tags in group.items()}


def _plain(module: DiscreteModule) -> dict[str, Any]:
    """The module's options as data; what is none is written in words."""
    options = {name: value for name, value in module.hparams.items() if not name.startswith("_")}
    arguments = json.loads(json.dumps(options, default=in_words))
    return {"model": {"class_path": type(module).__name__, "init_args": arguments}}
