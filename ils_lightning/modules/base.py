"""The base of the LightningModules: an injected estimator, optimisers from the configuration, plain hparams."""

from typing import Any, NamedTuple

from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ils_lightning.describe import create, describe
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.base import Loss


class Tracked(NamedTuple):
    """The quantity a module records while it trains (`curve`): its short `name` in logs, its `label` in figures."""

    name: str
    label: str


class Problem(NamedTuple):
    """What a gradient estimator is asked: `logits` `[*batch, latents, categories]` and the row-wise loss f of draws.

    `diagnose` and `GradientProbe` measure estimators on it, at the model's present parameters.
    """

    logits: Tensor
    loss: Loss


class DiscreteModule(LightningModule):
    """A LightningModule around an `Estimator`.

    Args:
        estimator: the estimator; its class name or a description (`describe`) will do. None for a model through whose
            draws no gradient passes.
        optimizer: makes the optimiser of an iterable of parameters.
        lr_scheduler: makes a learning-rate scheduler of the optimiser, stepped after every optimiser step.
    """

    monitor = "val/loss"
    """The logged quantity (lower is better) by which checkpoints are ranked."""
    test_after_fit = False
    """Whether the command line's `fit` ends with the test set."""
    tracked: Tracked | None = None
    """What `curve` records, lower being better; None where there is no curve."""

    def __init__(
        self,
        estimator: Estimator | None,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.estimator: Estimator = create(estimator, Estimator)
        self._optimizer = create(optimizer, OptimizerCallable)
        self._lr_scheduler = lr_scheduler and create(lr_scheduler, LRSchedulerCallable)

    def make_hyperparameters_plain(self, **objects: Any) -> None:
        """Saves descriptions of `objects` and drops functions, so that checkpoints hold data and load safely."""
        for name in [name for name, value in self.hparams.items() if callable(value)]:
            del self.hparams[name]
        self.save_hyperparameters({name: describe(value) for name, value in objects.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Makes the optimiser and, where one is given, its scheduler."""
        optimizer = self._optimizer(self.parameter_groups())
        if self._lr_scheduler is None:
            return optimizer
        scheduler = self._lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            config: Any = {"scheduler": scheduler, "monitor": self.monitor, "strict": False}
        else:
            config = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def parameter_groups(self) -> Any:
        """What the optimiser trains: parameters, or groups of them with options of their own."""
        return self.parameters()

    def problem(self, batch: Any) -> Problem:
        """Returns the logits of a batch and the loss of draws that the estimator sees in training.

        The loss must answer the same for the same draws: whatever noise it has of its own is drawn here, once.
        """
        del batch
        raise NotImplementedError(f"{type(self).__name__} must define problem(batch) to be diagnosed")

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns recorded steps `[points]` and the tracked quantity `[points, *rows]`."""
        raise NotImplementedError(f"{type(self).__name__} records no curve")

    def figures(self) -> dict[str, Figure]:
        """Pictures of the present state, by TensorBoard tag."""
        return {}

    def histograms(self) -> dict[str, Tensor]:
        """Values whose distribution is worth following, by TensorBoard tag."""
        return {}

    def summary(self) -> dict[str, str]:
        """What to print at the end of a run: quantity and value."""
        return {}
