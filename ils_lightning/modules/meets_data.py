"""How a module gets to know its data: once, before any callback or strategy looks at its networks.

Networks whose sizes follow from the data are made when the DataModule is set up. Callbacks copy, prune or freeze a
model in their own `setup`, and Lightning calls those before the model's: so the meeting is in front of them all.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torchmetrics import Metric

from ils_lightning.errors import Refusal

_SIZE = "size"


class DataSize(NamedTuple):
    """The size of the data that a module's networks depend on.

    Attributes:
        option: name of the option and of the attribute that hold it; the attribute is empty until it is known.
        axes: how many numbers it has.
        things: what has that size, with its axes, for messages.
        data: the data wanted, for messages.
    """

    option: str
    axes: int
    things: str
    data: str


IMAGE_SHAPE = DataSize("image_shape", 3, "images [channels, height, width]", "images, such as --data Digits")


class MeetsData(LightningModule):
    """Mixin of modules that take something from the DataModule, or refuse data that do not fit.

    A module whose networks depend on the data names their size in `sized_by` and makes them in `make`. State
    dictionaries carry the size, so that weights find their networks in a model that has not met its data.
    """

    sized_by: ClassVar[DataSize | None] = None
    """What the networks' sizes follow from; None where they do not depend on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_note_size)
        self.register_load_state_dict_pre_hook(_build_as_noted)

    @property
    def datamodule(self) -> Any:
        """The Trainer's DataModule; None where loaders were given by themselves."""
        return getattr(self._trainer, "datamodule", None)

    @property
    def is_built(self) -> bool:
        """Whether all networks are there."""
        return self.sized_by is None or bool(getattr(self, self.sized_by.option))

    def meet(self, data: Any, stage: str) -> None:
        """Takes from the DataModule what the model needs, and makes the networks; may be called again.

        Args:
            data: the DataModule, set up; None where loaders were given by themselves.
            stage: "fit", "validate", "test" or "predict".

        Raises:
            ValueError: when the data do not fit.
        """
        del stage
        if self.sized_by is None:
            return
        size = self.size_of(data)
        if size is not None:
            self.build(size)
        if not self.is_built:
            given = "loaders without a DataModule" if data is None else type(data).__name__
            raise Refusal(
                f"{type(self).__name__} needs data that are {self.sized_by.data}, or {self.sized_by.option}; "
                f"given {given}"
            )

    def size_of(self, data: Any) -> Sequence[int] | None:
        """Returns the size that `sized_by` names, None where the data do not tell."""
        return getattr(data, self.sized_by.option, None) if self.sized_by else None

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for data of this size."""
        raise NotImplementedError(f"{type(self).__name__} must define make(size)")

    def build(self, size: Sequence[int]) -> None:
        """Makes the networks for data of this size, once, and remembers it in the hyperparameters.

        Raises:
            ValueError: when they were made for another size.
        """
        if self.sized_by is None:
            raise Refusal(f"{type(self).__name__} has no networks that wait for the size of the data")
        made, size = tuple(getattr(self, self.sized_by.option)), tuple(size)
        if made and size != made:
            raise Refusal(
                f"{type(self).__name__} was made for {self.sized_by.things} = {list(made)}; these are {list(size)}"
            )
        if len(size) != self.sized_by.axes or min(size) < 1:
            raise Refusal(
                f"{type(self).__name__}: {self.sized_by.option} must be {self.sized_by.axes} whole numbers of at least "
                f"1, of {self.sized_by.things}; given {list(size)}"
            )
        if not made:
            self.make(size)
            setattr(self, self.sized_by.option, size)
            self.hparams[self.sized_by.option] = list(size)

    def configure_callbacks(self) -> list[Callback]:
        """Puts the meeting with the data in front of every callback's `setup`; an override calls this one too."""
        callbacks: list[Callback] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        if not any(isinstance(one, _Meeting) for one in callbacks):
            callbacks.insert(0, _Meeting())
        return []

    def setup(self, stage: str) -> None:
        """Meets the data, for those who set a model up without a Trainer's callbacks."""
        callbacks = getattr(self._trainer, "callbacks", ())
        if not any(isinstance(one, _Meeting) for one in callbacks):
            self.meet(self.datamodule, stage)


class _Meeting(Callback):
    """Has the model meet its data; keeps weights from being lost on their way back from processes of a spawned fit."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(pl_module, MeetsData):
            _empty_metrics(pl_module)
            self._known = set(pl_module.state_dict())
            pl_module.meet(pl_module.datamodule, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses networks that the process which started this one could not put the trained weights into."""
        launched = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
        if not launched or not isinstance(pl_module, MeetsData) or pl_module.sized_by is not None:
            return
        late = [name for name, _ in pl_module.named_parameters() if name not in self._known]
        if late:
            raise Refusal(
                f"{type(pl_module).__name__} made {late[0]} in its setup, so the weights trained in processes started "
                "by spawn or fork would be lost: make networks in __init__ or by `sized_by` and `make`, or use "
                "--trainer.strategy ddp"
            )


def _empty_metrics(module: LightningModule) -> None:
    """Gives every metric sums of its own: spawned processes are handed one and the same memory for them."""
    for part in module.modules():
        if isinstance(part, Metric):
            part.reset()


def _note_size(module: Any, state_dict: Any, prefix: str, metadata: dict[str, Any]) -> None:
    """Writes beside the weights what their networks were made for."""
    del state_dict, prefix
    if module.sized_by is not None and module.is_built:
        metadata[_SIZE] = list(getattr(module, module.sized_by.option))


def _build_as_noted(module: Any, state_dict: Any, prefix: str, metadata: dict[str, Any], *_: Any) -> None:
    """Makes the networks that weights belong to, where the model has not met its data."""
    del state_dict, prefix
    if not module.is_built and _SIZE in metadata:
        module.build(metadata[_SIZE])
