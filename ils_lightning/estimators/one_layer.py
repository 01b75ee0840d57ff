"""Notices one learning estimator in two layers: what it has learnt of one would be used, and spoilt, in the other.

A call waits from its forward to its backward pass. A second call in between is of the same layer where the parameters
next to its logits are the same (chunks of a batch, steps of a recurrence), and of another layer where they are not.
"""

import warnings
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn

LOOKS = 8
"""Calls in between that are looked into, for each instance: chunks need not be compared for ever."""


class Call:
    """A call whose backward pass has not come, kept alive by its graph."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.waits = logits, True

    def over(self, gradient: Tensor | None = None) -> None:
        """Backward has come; also a hook of the logits."""
        del gradient
        self.waits = False


_last: WeakKeyDictionary[nn.Module, "ref[Call]"] = WeakKeyDictionary()
_looks: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def watched(estimator: nn.Module, logits: Tensor) -> Tensor:
    """Returns the logits for a call that is over when a gradient comes to them; see `begun`."""
    call, own = begun(estimator, logits), logits.view_as(logits)
    own.register_hook(call.over)
    return own


def begun(estimator: nn.Module, logits: Tensor) -> Call:
    """Returns the call, for the graph to hold; warns, once, when the estimator still waits on that of another layer."""
    before = _last[estimator]() if estimator in _last else None
    if before is not None and before.waits and _looks.get(estimator, 0) < LOOKS:
        _looks[estimator] = _looks.get(estimator, 0) + 1
        if sources(before.logits) != sources(logits):
            _looks[estimator] = LOOKS
            warnings.warn(
                f"{type(estimator).__name__} learns about one problem, so each layer needs its own instance; this one "
                "was called for the logits of two layers before a backward pass",
                stacklevel=5,
            )
    call = Call(logits)
    _last[estimator] = ref(call)
    return call


def sources(logits: Tensor) -> set[int]:
    """Identities of the parameters next to the logits in their graph; of the leaves where it has no parameters."""
    level: set[Any] = {logits.grad_fn} - {None}
    seen, leaves = set(level), {id(logits)} if not level else set()
    while level:
        found = [node.variable for node in level if hasattr(node, "variable")]
        nearest = {id(x) for x in found if isinstance(x, nn.Parameter)}
        if nearest:
            return nearest
        leaves |= {id(x) for x in found}
        level = {following for node in level for following, _ in node.next_functions} - {None} - seen
        seen |= level
    return leaves
