"""The base of the LightningModules: an injected estimator, optimisers from the configuration, plain hparams."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ils_lightning import __version__
from ils_lightning.describe import create, describe, differences, in_words, short
from ils_lightning.errors import Refusal, refusing
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.base import Loss
from ils_lightning.layers.gates import TopKGate
from ils_lightning.modules.defaults import as_default
from ils_lightning.modules.meets_data import MeetsData
from ils_lightning.modules.other_estimator import ESTIMATOR, replace_other_estimator

VERSION = "ils_lightning_version"
"""Where a checkpoint keeps the version of the package that wrote it."""


Charts = Mapping[str, Mapping[str, Sequence[str]]]
"""Charts by category and title: the tags of the scalars that are drawn together, each a regular expression."""


class Tracked(NamedTuple):
    """The quantity a module records while it trains (`curve`): its short `name` in logs, its `label` in figures."""

    name: str
    label: str


class Problem(NamedTuple):
    """What a gradient estimator is asked: `logits` `[*batch, latents, categories]` and the row-wise loss f of draws.

    `diagnose` and `GradientProbe` measure estimators on it, at the model's present parameters. `estimator` is the one
    in use there, where it is not the model's attribute `estimator`.
    """

    logits: Tensor
    loss: Loss
    estimator: Estimator | None = None


@runtime_checkable
class HasProblem(Protocol):
    """What `diagnose` and `GradientProbe` ask of a model: any LightningModule with this method will do.

    Where the model has an attribute `estimator`, that one is measured with the others.

    Example:
        >>> import torch
        >>> from lightning import LightningModule
        >>> class Router(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.router, self.experts = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        ...
        ...     def problem(self, batch):
        ...         x, y = batch
        ...         answers = self.experts(x)  # [batch, categories]
        ...         return Problem(
        ...             self.router(x).unsqueeze(-2), lambda z: ((z[..., 0, :] * answers).sum(-1) - y).square()
        ...         )
        >>> isinstance(Router(), HasProblem)
        True
    """

    def problem(self, batch: Any) -> Problem:
        """Returns the logits of a batch and the loss of draws, as the estimator sees them in training.

        The loss must answer the same for the same draws: whatever noise it has of its own is drawn here, once.
        """
        ...


def require_one_category(model: str, estimator: Estimator) -> None:
    """Raises a ValueError when a draw of the estimator holds several categories of a latent, of which `model` has one.

    Args:
        model: its name, for the message.
        estimator: the estimator in use.
    """
    if estimator.ones != 1:
        raise Refusal(
            f"{model} needs draws of one category a latent; {in_words(estimator)} draws {estimator.ones} (DiscreteVAE "
            "takes it)"
        )


class DiscreteModule(MeetsData):
    """A LightningModule around an `Estimator`.

    Args:
        estimator: the estimator; its class name or a description (`describe`) will do. None for a model through whose
            draws no gradient passes.
        optimizer: makes the optimiser of an iterable of parameters.
        lr_scheduler: makes a learning-rate scheduler of the optimiser, stepped after every optimiser step.

    Attributes:
        learning_rate: takes the place of the optimiser's own where it is set, as Lightning's LearningRateFinder does;
            groups of parameters with a rate of their own keep it.
    """

    _abstract = True
    monitor = "val/loss"
    """The logged quantity (lower is better) by which checkpoints are ranked."""
    test_after_fit = False
    """Whether the command line's `fit` ends with the test set."""
    tracked: Tracked | None = None
    """What `curve` records, lower being better; None where there is no curve."""
    routes: ClassVar[bool] = False
    """Whether its draws are those of a `Router`, which takes gates that draw nothing, too."""
    charts: ClassVar[Charts | None] = None
    """What TensorBoard shows under Custom Scalars; unless given, the monitored quantity and the loss."""

    def __init__(
        self,
        estimator: Estimator | None,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        made: Any = None if estimator is None else create(estimator, Estimator)
        if isinstance(made, TopKGate) and not self.routes:
            raise Refusal(
                f"{type(self).__name__} needs draws; {in_words(made)} draws nothing, and is a gate for a Router alone, "
                "as in MixtureOfExperts (a class of your own that has one says routes = True)"
            )
        self.estimator: Estimator = made
        self._written_by = "of unknown version"
        self._saved: dict[str, Any] = {}
        self._optimizer = create(as_default(type(self), optimizer), OptimizerCallable)
        self._lr_scheduler = lr_scheduler and create(lr_scheduler, LRSchedulerCallable)
        self.learning_rate: float | None = None

    def make_hyperparameters_plain(self, **objects: Any) -> None:
        """Saves descriptions of `objects` and drops functions, so that checkpoints hold data and load safely."""
        for name in [name for name, value in self.hparams.items() if callable(value)]:
            del self.hparams[name]
        self.save_hyperparameters({name: describe(value) for name, value in objects.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Makes the optimiser and, where one is given, its scheduler."""
        groups = self.parameter_groups()
        with refusing({ValueError: lambda error: f"model.optimizer: {error}"}):
            optimizer = self._optimizer(groups)
        if self.learning_rate is not None:
            for group in optimizer.param_groups:
                own = group["lr"] != optimizer.defaults["lr"]
                group["lr"] = group["lr"] if own else self.learning_rate
        _require_finite(optimizer)
        if self._lr_scheduler is None:
            return optimizer
        with refusing({ValueError: lambda error: f"model.lr_scheduler: {error}"}):
            scheduler = self._lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            config: Any = {"scheduler": scheduler, "monitor": self.monitor, "strict": False}
        else:
            config = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def parameter_groups(self) -> Any:
        """What the optimiser trains: parameters, or groups of them with options of their own."""
        return self.parameters()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the version of this package, and the estimator that the state belongs to."""
        checkpoint[VERSION] = __version__
        checkpoint[ESTIMATOR] = describe(self.estimator)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes what version and options wrote the checkpoint, and drops what another estimator had learnt."""
        self._written_by = checkpoint.get(VERSION, "of unknown version")
        self._saved = checkpoint.get("hyper_parameters", {})
        replace_other_estimator(self, checkpoint)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads weights and state.

        Raises:
            ValueError: when they are not those of this model; it names the options that are others, else what is
                missing and which version wrote them.
        """
        try:
            found = super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            _, *wrong = (line.strip() for line in str(error).splitlines())
            if others := list(differences("model", _sized(self.hparams), _sized(self._saved))):
                told = "; ".join(f"{key} is {short(new)}, the checkpoint has {short(old)}" for key, new, old in others)
                raise Refusal(f"the checkpoint's weights do not fit this {type(self).__name__}: {told}") from None
            raise Refusal(
                f"the weights, written by ils_lightning {self._written_by}, are not those of this "
                f"{type(self).__name__} of ils_lightning {__version__}: {' '.join(wrong)}"
            ) from None
        if self.sized_by is not None and not self.is_built and found.unexpected_keys:
            raise Refusal(
                f"{type(self).__name__} has made no networks yet: give {self.sized_by.option}, for these weights do "
                "not tell the size of their data"
            )
        return found

    def problem(self, batch: Any) -> Problem:
        """Returns the logits of a batch and the loss of draws (see `HasProblem`)."""
        del batch
        raise Refusal(
            f"{type(self).__name__} has no problem(batch): what is measured are gradients to the logits of categorical "
            "draws, of models that answer these and a loss of draws"
        )

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns recorded steps `[points]` and the tracked quantity `[points, *rows]`."""
        raise NotImplementedError(f"{type(self).__name__} records no curve")

    def figures(self) -> dict[str, Figure]:
        """Pictures of the present state, by TensorBoard tag."""
        return {}

    def histograms(self) -> dict[str, Tensor]:
        """Values whose distribution is worth following, by TensorBoard tag."""
        return {}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        """Returns how to print a measured quantity: what it is, and its value with the unit."""
        return name, f"{value:.4g}"

    def summary(self) -> dict[str, str]:
        """What to print at the end of a run: quantity and value."""
        return {}

    def note(self) -> str:
        """What a reader of the results must know of them, in one line; nothing where all went well."""
        return ""


def _sized(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a model's options that sizes of its networks may follow from."""
    others = ("estimator", "optimizer", "lr_scheduler")
    return {name: one for name, one in settings.items() if name not in others and not isinstance(one, float | bool)}


def _require_finite(optimizer: Optimizer) -> None:
    """Raises a ValueError where an option of the optimiser would make every parameter NaN at the first step."""
    for group in optimizer.param_groups:
        for name, value in group.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise Refusal(f"model.optimizer: {name} must be finite; given {value}")
