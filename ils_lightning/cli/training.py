"""fit, validate, test and predict: LightningCLI with our base classes, defaults and guards."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import yaml
from jsonargparse import Namespace
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden

from ils_lightning import atomic
from ils_lightning.callbacks import (
    Dashboard,
    EvaluationReport,
    Figures,
    FiniteGuard,
    FitReport,
    Hyperparameters,
    LastCheckpoint,
    LearningRate,
    RankSeed,
    Resumption,
    SavePredictions,
    StepProgress,
)
from ils_lightning.callbacks.interruption import Ended
from ils_lightning.callbacks.resumption import nothing_left
from ils_lightning.checkpoint_io import use_complete_checkpoints
from ils_lightning.cli import checkpoints, configs
from ils_lightning.cli.errors import PROGRAM, fail, of_a_callback, told_in_one_line
from ils_lightning.cli.guards import EndlessData, NamedLogs, OwnFiles, RefusedRun, SaveConfiguration, plain
from ils_lightning.cli.one_line import OneLine
from ils_lightning.cli.ranks import lost_another, refusal_of_a_fork
from ils_lightning.data.base import DiscreteData
from ils_lightning.errors import Refusal, Told, of_memory
from ils_lightning.messages import explained
from ils_lightning.modules.base import DiscreteModule
from ils_lightning.trainer_options import not_installed, refusing_trainers, require_sensible, tell_what_it_refuses
from ils_lightning.type_hints import null_among, unused_among
from ils_lightning.unprofiled import Unprofiled

_ROOTS = {"model": DiscreteModule, "data": DiscreteData, "trainer": Trainer, "seed_everything": bool | int}
_LIGHTNINGS = signature(Trainer).parameters
_TOLD: Told = {
    Refusal: explained,
    MisconfigurationException: str,
    ModuleNotFoundError: lambda error: of_a_callback(error) or not_installed(error),
    RuntimeError: lambda error: lost_another(error) or of_memory(error),
    TypeError: of_memory,
    Exception: lambda error: refusal_of_a_fork(error) or of_a_callback(error),
}


class Parser(OneLine, LightningArgumentParser):
    """LightningCLI's parser, whose errors are one line."""

    roots: ClassVar[Mapping[str, Any]] = get_type_hints(Trainer.fit) | _ROOTS


class CommandLine(LightningCLI):
    """LightningCLI over what lies beneath the typed words: the checkpoint's settings, or the embedded default."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses `args`; the checkpoint's settings come first, so that what was typed wins."""
        configs.require_values(args)
        words = configs.with_paths(args)
        path = checkpoints.path_among(words)
        saved = self._parse(parser, words, path)
        if not path and (named := self.config[words[0]].get("ckpt_path")):  # by a configuration
            path = checkpoints.path_among([words[0], f"--ckpt_path={named}"])
            saved = self._parse(parser, words, path)
        if not isinstance(chosen := self.config[words[0]].trainer, Namespace):
            fail(f"--trainer: must be a mapping of the Trainer's options; given {chosen!r}")
        if (seed := self.config[words[0]].seed_everything) is None or not 0 <= int(seed) < 2**32:
            fail(f"--seed_everything: must be from 0 to {2**32 - 1}; given {'null' if seed is None else seed}")
        for part in ("model", "data"):
            if (found := null_among(self.config[words[0]].get(part), part)) is not None:
                fail(f"--{found[0]}: must be {found[1]}; given null")
        if "\\x00" in repr(self.config[words[0]]):
            fail("a value of the configuration holds the character NUL, which no path or name may")
        for part in ("model", "data", "trainer"):
            if told := unused_among(self.config[words[0]].get(part), part):
                fail(f"--{told}")
        if path:
            self.config[words[0]].ckpt_path = None  # else its hyperparameters would be laid on top of all
            sub = self._subcommand_parsers[words[0]]
            checkpoints.report_differences(args, plain(sub, self.config[words[0]]), saved)
        self._path = path

    def _parse(self, parser: LightningArgumentParser, words: list[str], path: str | None) -> dict[str, Any]:
        """Parses `words` over the settings of the checkpoint at `path`, and returns these."""
        saved = checkpoints.configuration(path, configs.named_classes(words) | configs.options(words)) if path else {}
        if path and (told := checkpoints.of_another(saved, configs.model_named(words))):
            fail(f"--ckpt_path: the checkpoint {path!r} cannot be restored: {told}")
        own_table = {} if words[0] not in ("validate", "test") else {"verbose": False}  # see EvaluationReport
        beneath = configs.default_for(words) | saved | own_table
        self.config = parser.parse_args([words[0], f"--config={json.dumps(beneath)}", *words[1:]])
        trainer = self.config[words[0]].trainer
        if saved and isinstance(trainer, Namespace) and isinstance(trainer.callbacks, list):
            trainer.callbacks = _each_once(trainer.callbacks)  # the checkpoint's, to which the same ones were added
        return saved

    def before_instantiate_classes(self) -> None:
        """Puts back the checkpoint's path, to be read as weights and plain data unless told otherwise."""
        verb = self.config[self.config["subcommand"]]
        if self._path:
            atomic.remove_abandoned(Path(self._path).parent)
            verb.ckpt_path = self._path
            verb.weights_only = verb.weights_only is not False

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the callbacks and the logger that were not chosen otherwise."""
        if is_overridden("train_dataloader", self.model):
            raise Refusal(
                f"--model: {type(self.model).__name__} has a train_dataloader of its own, and data are a part by "
                "themselves here: put it into a LightningDataModule, and name that by --data"
            )
        chosen = self.config_init[self.config["subcommand"]].trainer
        given = chosen.callbacks or []
        given = given if isinstance(given, list) else [given]
        refused = RefusedRun()
        kwargs["callbacks"] = [
            NamedLogs(),
            refused,
            OwnFiles(),
            *_missing([Resumption()], given),
            *given,
            *_missing(self._defaults(chosen), given),
        ]
        if chosen.barebones:  # the Trainer refuses what a packaged configuration asks for besides
            kwargs["log_every_n_steps"] = 0
        elif chosen.profiler is None:
            kwargs["profiler"] = Unprofiled()
        if chosen.logger in (None, True) and not (chosen.fast_dev_run or chosen.barebones):
            kwargs["logger"] = TensorBoardLogger(
                chosen.default_root_dir or os.getcwd(),
                name="lightning_logs",
                default_hp_metric=False,
                prefix=type(self.model).__name__,  # what one model calls its loss is not what another does
            )
        with refusing_trainers():
            trainer = super().instantiate_trainer(**kwargs)
        require_sensible(trainer)
        tell_what_it_refuses(trainer)
        use_complete_checkpoints(trainer)
        if self.config["subcommand"] not in ("diagnose", "encode"):  # which write no logs
            refused.watch(trainer)
        return trainer

    def after_fit(self) -> None:
        """Tests the model as training left it, where that is part of its result."""
        ends = not self.trainer.interrupted and not nothing_left(self.trainer)
        if getattr(self.model, "test_after_fit", False) and ends:
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)

    def _defaults(self, chosen: Any) -> list[Callback]:
        bars = chosen.enable_progress_bar in (None, True) and not chosen.barebones
        # bars first: they are taken away before tables are written
        default: list[Callback] = [RankSeed(), *([StepProgress()] if bars else []), FiniteGuard(), EvaluationReport()]
        if self.config["subcommand"] == "predict":
            default.append(SavePredictions())
        if self.config["subcommand"] == "fit":
            dashboard = Dashboard(self._configuration())
            default += [EndlessData(), dashboard, Figures(), Hyperparameters(), FitReport()]
            default += [LearningRate()] if getattr(self.model, "_lr_scheduler", None) is not None else []
            if chosen.enable_checkpointing in (None, True) and not (chosen.fast_dev_run or chosen.barebones):
                default += _checkpoints(self.model)
        return default

    def _configuration(self) -> str:
        """The settings of this run in YAML, without those that are left to Lightning."""
        verb = self.config["subcommand"]
        settings = plain(self._subcommand_parsers[verb], self.config[verb])
        chosen = {name: value for name, value in settings["trainer"].items() if value != _LIGHTNINGS[name].default}
        return yaml.safe_dump({**settings, "trainer": chosen}, sort_keys=False)


def run(words: list[str]) -> None:
    """Runs the Trainer's verb `words[0]`; mistakes in what was typed end in one line and exit status 2."""
    run_command_line(CommandLine, LightningModule, LightningDataModule, words)


def run_command_line(
    kind: type[CommandLine], model: type, data: type, words: list[str], parser: type[Parser] = Parser, **options: Any
) -> None:
    """Makes a command line of this kind, for models and data of these types, and so runs the verb `words[0]`."""
    with warnings.catch_warnings(), told_in_one_line(_TOLD), _failing_when_terminated():
        _silence()
        kind(
            model,
            data,
            SaveConfiguration,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_kwargs={"prog": PROGRAM},
            parser_class=parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=words,
            auto_configure_optimizers=False,
            **options,
        )


@contextmanager
def _failing_when_terminated() -> Iterator[None]:
    """Ends with a status where Lightning, sent TERM in a run without checkpoints, ends as if all were done."""
    try:
        yield
    except SIGTERMException:
        fail("ended by TERM before the training was done; there are no checkpoints to go on from")


def _each_once(descriptions: list[Any]) -> list[Any]:
    """Returns the descriptions without those that are like an earlier one."""
    return [one for number, one in enumerate(descriptions) if one not in descriptions[:number]]


def _checkpoints(model: LightningModule) -> list[Callback]:
    """The best checkpoint by the module's own measure, where it names one, and the last one."""
    monitor = getattr(model, "monitor", None)
    if monitor is None:
        return [LastCheckpoint()]
    best = ModelCheckpoint(
        monitor=monitor, mode="min", filename="best", enable_version_counter=False, save_on_train_epoch_end=False
    )
    return [best, LastCheckpoint()]


def _missing(defaults: list[Callback], given: list[Callback]) -> list[Callback]:
    """The defaults of whose kind none is given."""
    return [default for default in defaults if not any(_serves_as(one, default) for one in given)]


def _serves_as(given: Callback, default: Callback) -> bool:
    if isinstance(default, LastCheckpoint):  # another checkpoint says nothing of when and how a run is left
        return isinstance(given, LastCheckpoint)
    return isinstance(given, ProgressBar if isinstance(default, ProgressBar) else type(default))


def _silence() -> None:
    """Silences advice of Lightning's that does not apply to data made in memory and models this small."""
    for message in (
        ".*does not have many workers.*",
        r".*You are trying to `self.log(_dict)?\(\)` but `Trainer\(barebones=True\)`.*",
        ".*The number of training batches.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The dirpath has changed from.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        ".*srun.*command is available.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        r"(?s).*JsonargparseDeprecationWarning",  # Lightning's own calls
        r"(?s).*Unable to serialize instance",  # what `serializable` leaves out
        r"(?s).*was deprecated in v4.* will be\s+removed in v5",
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Whether a line is news: what is said of the end would stand on the line of a bar, above a table that says it.

    Of a run that was asked to end, its last checkpoint has said so.
    """
    message = record.getMessage()
    ended = message.startswith("`Trainer.fit` stopped") and sys.stdout.isatty()
    asked = message.startswith("\nDetected KeyboardInterrupt") and isinstance(sys.exc_info()[1], Ended)
    return "Tip: " not in message and not ended and not asked
