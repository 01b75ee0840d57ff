"""ILS on a natural exponential family, with the step in the metric of its variance function (this project).

    x ~ theta,   d = x - mu,   g = df/dx;   target mu_D = x - alpha W g
    d KL(mu_D || mu) / d theta = mu - mu_D = -d + alpha W g, E d = 0: without d, and divided by alpha, W g
    W = V + s^2/(1 + s^2) V' d:   s = 0 is straight-through, s = 1 has the metric halfway from the mean to the draw
    estimate = W (g - h x) + h (mu V + V V' / 2),   h = pooled E g d / E V, from earlier steps

Because E d^3 = V V', s = 1 is exact for every quadratic f and any h that does not see the draw; on two values it is
ReinMax. At other s the expectation is off that one by (1 - s^2)/(1 + s^2) (h - h*) V V' / 2, nothing at the row's own
h* = E g d / V. Where V' = 0, for Gaussians, W g is the reparameterisation gradient, unbiased for every f, and h only
removes variance.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Lesson, Loss, evaluate
from ils_lightning.estimators.delivery import Deliver
from ils_lightning.estimators.family import SMALLEST_TRACE, full_precision, rows
from ils_lightning.estimators.learnt import Learnt
from ils_lightning.variables.natural_family import NaturalFamily
from ils_lightning.variables.variable_estimator import VariableEstimator


class ILSNatural(Learnt, VariableEstimator):
    """Estimates d E f(x) / d theta from one evaluation of f and its gradient at an exact draw x.

    For variables with many values or infinitely many; where values are few, `Binomial` also serves every categorical
    estimator. f must be defined, and mean something, between the values.

    Args:
        family: the distribution.
        decay: weight of the past in the moving sums behind h, in [0, 1).
        base: s of the metric: 0 has the least variance, 1 the least bias; above 1 both grow.

    Raises:
        ValueError: when an option is out of range.

    Example:
        >>> import torch
        >>> from ils_lightning.variables import Poisson
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = ILSNatural(Poisson())(theta, lambda x: (x[..., 0] - 3.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    statistics = ("S", "P")
    S: Tensor
    P: Tensor

    def __init__(self, family: NaturalFamily, decay: float = 0.9, base: float = 0.5) -> None:
        nn.Module.__init__(self)
        if not 0 <= base < float("inf"):
            raise Refusal(f"ILSNatural: base must be at least 0 and finite; given {base}")
        self.declare(decay)
        self.family, self.base = family, base

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return ((latents, categories),) * 2

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]` of a draw; its backward delivers the estimate to theta.

        Args:
            theta: natural parameters `[*batch, latents]`.
            f: a loss of values, x `[samples, *batch, latents]` to `[samples, *batch]`.

        Raises:
            ValueError: when f's answer has another shape or no gradient.
        """
        theta = theta.unsqueeze(-1)  # one number where a categorical variable has its categories
        mu = self.family.mean(theta.detach())
        x = self.family.draw(mu).requires_grad_(torch.is_grad_enabled())
        loss = evaluate(lambda x: f(x.squeeze(-1)), x.unsqueeze(0)).squeeze(0)
        if not torch.is_grad_enabled():
            return loss
        if not loss.requires_grad:
            raise Refusal("ILSNatural needs a loss f that is differentiable in x; the answer has no gradient")
        (g,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
        lessons: list[Lesson] = []
        estimate = self.estimate(mu, x.detach(), g, lessons.append)
        return Deliver.apply(loss, theta, estimate, "ILSNatural", partial(_give, lessons))

    @torch.no_grad()
    def estimate(self, mu: Tensor, x: Tensor, g: Tensor, later: Callable[[Lesson], None] | None = None) -> Tensor:
        """The estimate of d E f / d theta; everything `[*batch, latents, 1]`.

        What there is to learn is handed to `later`, or learnt at once from every row.
        """
        with full_precision(mu):
            self.prepare(mu)
            h = torch.where(self.P < SMALLEST_TRACE, 0, self.S / self.P.clamp(min=SMALLEST_TRACE)).to(mu)
            V, slope, d = self.family.variance(mu), self.family.slope(mu), x - mu
            W = V + self.base**2 / (1 + self.base**2) * slope * d
            if self.training:
                lesson = partial(self._study, V, d, g)
                lesson(torch.ones((), dtype=torch.bool, device=mu.device)) if later is None else later(lesson)
        return W * (g - h * x) + h * (mu * V + V * slope / 2)

    def _study(self, V: Tensor, d: Tensor, g: Tensor, counted: Tensor) -> None:
        """Learns from the rows `counted`, up to `[*batch]`."""
        number = counted[..., None, None].to(g).expand_as(g)
        V, d, g = (rows(torch.where(number > 0, x, 0)) for x in (V, d, g))
        squares = torch.stack([g.double().square().sum(dim=(0, -1)), rows(number).double().sum(dim=(0, -1))])
        self.update(squares, (g * d).sum(dim=0), V.sum(dim=0))


def _give(lessons: list[Lesson], c: Tensor) -> tuple[()]:
    """Gives lessons from the rows that have an upstream gradient c `[*batch]`; there are no parameters."""
    for lesson in lessons:
        lesson(c != 0)
    return ()
