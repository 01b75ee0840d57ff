"""Plain gradient descent without the optimiser's own bookkeeping, which costs many times the arithmetic of a toy."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

_PLAIN = {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


def plain_descent(optimizer: Optimizer) -> Callable[[], None] | None:
    """Returns what takes the same step, bit for bit, if `optimizer` is SGD of one tensor without any options.

    None where there is more to do: momentum, weight decay, several tensors, hooks around its steps.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.ones(2))
        >>> step = plain_descent(SGD([p], lr=0.5))
        >>> p.grad = torch.tensor([1.0, 2.0])
        >>> step()
        >>> p.data
        tensor([0.5000, 0.0000])
    """
    groups = optimizer.param_groups
    if type(optimizer) is not SGD or len(groups) != 1 or len(groups[0]["params"]) != 1 or _has_hooks(optimizer):
        return None
    group, (parameter,) = groups[0], groups[0]["params"]
    if any(group[name] != value for name, value in _PLAIN.items()) or isinstance(group["lr"], Tensor):
        return None
    value = parameter.detach()  # shares memory

    def step() -> None:
        value.add_(parameter.grad, alpha=-group["lr"])

    return step


def _has_hooks(optimizer: Optimizer) -> bool:
    """Whether something is to be called around its steps."""
    own = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    return any((*own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks))
