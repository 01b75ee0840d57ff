"""What the verbs ask of a model: any LightningModule with the method in question will do, of this package or not."""

from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal, Protocol, runtime_checkable

from matplotlib.figure import Figure
from torch import Generator, Tensor

from ils_lightning.modules.base import Tracked
from ils_lightning.type_hints import is_required


@runtime_checkable
class HasCurve(Protocol):
    """What `compare` ranks by; of a model without it, the training loss is recorded, once an epoch."""

    tracked: Tracked | None

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns recorded steps `[points]` and the tracked quantity, lower being better, `[points, *rows]`."""
        ...


@runtime_checkable
class HasEvaluations(Protocol):
    """What `compare` counts in place of evaluations of f, of a model whose steps differ otherwise in what they cost."""

    def evaluations(self, batch: Any) -> float:
        """Returns how often the unit of cost is computed in a training step on this batch."""
        ...


@runtime_checkable
class HasSamples(Protocol):
    """What `sample` asks for.

    Example:
        >>> import torch
        >>> from lightning import LightningModule
        >>> class Noise(LightningModule):
        ...     def sample(self, count, generator=None):
        ...         return torch.rand(count, 1, 8, 8, generator=generator)
        >>> isinstance(Noise(), HasSamples)
        True
    """

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws images `[count, channels, height, width]`."""
        ...


@runtime_checkable
class HasWriting(Protocol):
    """What `sample` asks for of a model of text."""

    def write(self, count: int, generator: Generator | None = None) -> list[str]:
        """Draws texts."""
        ...


@runtime_checkable
class HasCodes(Protocol):
    """What `encode` asks for."""

    def encode(self, x: Tensor) -> Tensor:
        """Returns codes `[batch, latents]`, int64, of what a batch holds first."""
        ...


@runtime_checkable
class HasFigures(Protocol):
    """What is drawn beside a fit, in TensorBoard and as files."""

    def figures(self) -> dict[str, Figure]:
        """Pictures of the present state, by name."""
        ...


@runtime_checkable
class HasTexts(Protocol):
    """What TensorBoard shows under Text as the model learns."""

    def texts(self) -> dict[str, str]:
        """Texts of the present state, as they stand, by name."""
        ...


@runtime_checkable
class HasHistograms(Protocol):
    """What TensorBoard shows distributions of."""

    def histograms(self) -> dict[str, Tensor]:
        """Values whose distribution is worth following, by name."""
        ...


@runtime_checkable
class HasSummary(Protocol):
    """What a fit prints when it ends; of a model without it, the quantities that were logged last."""

    def summary(self) -> dict[str, str]:
        """Quantities and values, in words."""
        ...


def shown(model: Any, name: Literal["figures", "histograms", "texts", "summary"]) -> dict[str, Any]:
    """Returns what a model shows of itself; nothing of a method of that name that is something else."""
    method = getattr(model, name, None)
    if not callable(method) or any(map(is_required, signature(method).parameters.values())):
        return {}
    found = method()
    return dict(found) if isinstance(found, Mapping) else {}


def has_evaluations(model: Any) -> bool:
    """Whether a model counts what a step costs by itself; not where `evaluations` is something else.

    Example:
        >>> class Counts:
        ...     def evaluations(self, batch):
        ...         return 3.0
        >>> class Other:
        ...     evaluations = ()
        >>> has_evaluations(Counts()), has_evaluations(Other())
        (True, False)
    """
    method = getattr(model, "evaluations", None)
    return callable(method) and sum(map(is_required, signature(method).parameters.values())) == 1


def has_curve(model: Any) -> bool:
    """Whether a model records a curve of its own."""
    return isinstance(model, HasCurve) and model.tracked is not None
