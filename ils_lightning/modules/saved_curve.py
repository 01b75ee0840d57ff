"""The curve that a checkpoint holds."""

from typing import Any

from torch import Tensor

from ils_lightning.errors import Refusal


def saved_curve(curve: Any) -> tuple[Tensor, Tensor]:
    """Returns steps `[points]` and values `[points, *rows]` of a curve as `on_save_checkpoint` writes it.

    Raises:
        ValueError: when it is none.

    Example:
        >>> import torch
        >>> saved_curve({"steps": torch.tensor([1, 2]), "values": torch.ones(2, 1)})[0]
        tensor([1, 2])
    """
    found = [curve.get(name) if isinstance(curve, dict) else None for name in ("steps", "values")]
    steps, values = [one if isinstance(one, Tensor) else None for one in found]
    if steps is None or values is None or steps.dim() != 1 or not values.dim() or len(steps) != len(values):
        given = [list(one.shape) if isinstance(one, Tensor) else repr(one)[:40] for one in found]
        raise Refusal(
            "the checkpoint's curve must hold steps [points] and values [points, rows], tensors of equal length; "
            f"given {given[0]} and {given[1]}"
        )
    return steps, values
