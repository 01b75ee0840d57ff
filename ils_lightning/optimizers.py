"""RAdam (Liu et al., 2020, 1908.03265) by torch's fused kernel of Adam: the same update in one pass over memory.

    m, v = Adam's moving averages, both divided by one minus their decay to the power t
    rho_t = rho - 2 t b2^t / (1 - b2^t),   rho = 2 / (1 - b2) - 1
    rho_t > 5:  theta -= lr r_t m / (sqrt(v) + eps / sqrt(1 - b2^t)),
                r_t^2 = (rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2) rho_t)
    else:       theta -= lr m

Each line is Adam's update with another learning rate and eps, the last one in the limit of a large eps.
"""

from collections.abc import Callable
from typing import Any

import torch

_LARGE = 1e12


__all__ = ["FusedRAdam"]


class FusedRAdam(torch.optim.Adam):
    """`torch.optim.RAdam` to rounding, with its options; on a CPU its step takes a fraction of the time.

    torch's own goes over all weights some ten times a step, which on a CPU can take as long as the networks of a small
    autoencoder.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decays of the moving averages of the gradient and of its square.
        eps: added to the root of the second average before its bias is corrected, as torch does.
        weight_decay: times the weights, added to the gradient.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> optimizer = FusedRAdam([weight], lr=0.1)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.8000, 0.8000, 0.8000])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = [(group["lr"], group["eps"]) for group in self.param_groups]
        try:
            for group in self.param_groups:
                self._rectify(group)
            super().step()
        finally:
            for group, (lr, eps) in zip(self.param_groups, given, strict=True):
                group["lr"], group["eps"] = lr, eps
        return loss

    def _rectify(self, group: dict[str, Any]) -> None:
        """Sets the group's learning rate and eps to those with which Adam's update is RAdam's."""
        taken = [self.state[p]["step"] for p in group["params"] if self.state.get(p)]
        t, b2 = (int(taken[0]) if taken else 0) + 1, group["betas"][1]
        rho, correction = 2 / (1 - b2) - 1, 1 - b2**t
        rho_t = rho - 2 * t * b2**t / correction
        if rho_t > 5:
            group["lr"] *= ((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t)) ** 0.5
            group["eps"] /= correction**0.5
        else:
            group["lr"], group["eps"] = group["lr"] * _LARGE, _LARGE
