"""Gumbel-Rao (Paulus, Maddison and Krause, 2020, 2010.04838).

Paper: Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator.

    z ~ pi = softmax(theta), drawn category k;   l = theta + G given argmax l = k:
    l_k = -log E_k + log Z,   l_j = -log(E_j / exp(theta_j) + E_k / Z),   E_j ~ Exp(1),   Z = sum_j exp(theta_j);
    y = softmax(l / tau);   estimate = mean over R such l of (1/tau) J(y) g,   J(q) v = q (v - q.v)

l is held fixed in backward: only softmax(. / tau) is differentiated. R = 1 is straight-through Gumbel-Softmax in law;
as tau -> 0 the expectation becomes ReinMax's.
"""

from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import exponential, put_ones, softmax
from ils_lightning.estimators.sampler import Pullback


class GumbelRao(Pullback):
    """Averages straight-through Gumbel-Softmax over the noise that leads to the same draw; f is evaluated once.

    Args:
        resamples: R, conditional noise vectors a row; memory of the backward pass grows with it.
        temperature: tau of the backward pass.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = GumbelRao(resamples=10)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Paulus et al. 2020, 2010.04838"
    equation = r"""
        z &\sim \pi, \quad k \text{ the drawn category} \\
        Z &= \sum_j e^{\theta_j} \\
        E_j &\sim \mathrm{Exp}(1) \\
        l_k &= \log Z - \log E_k \\
        l_j &= -\log\left(E_j e^{-\theta_j} + E_k / Z\right) \\
        y_r &= \operatorname{softmax}(l^{(r)} / \tau) \text{ for each of } R \text{ such } l \\
        \hat\nabla &= \frac{1}{R} \sum_{r=1}^{R} \frac{1}{\tau} J_{y_r} \, g
    """

    def __init__(self, resamples: int = 100, temperature: Option = 0.5) -> None:
        super().__init__()
        self.resamples = self.whole("resamples", resamples, 1)
        self.option("temperature", temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return rao(logits.to(pi.dtype), z, g, per_row(self.temperature, logits), self.resamples)


def rao(theta: Tensor, z: Tensor, g: Tensor, tau: Tensor | float, resamples: int) -> Tensor:
    """Averages (1/tau) J(softmax(l / tau)) g over perturbed logits l = theta + G whose argmax is the draw.

    softmax(l / tau) is exp((l - l_k) / tau) over its sum, and exp(l_j - l_k) = 1 / (1 + E_j / (E_k pi_j)): at most 1.

    Args:
        theta: logits `[*batch, latents, categories]`, in float32 at least.
        z: the draw on which the noise is conditioned.
        g: df/dz at the draw.
        tau: temperature, with the axes of `theta` if it is a tensor.
        resamples: R.
    """
    k = z.argmax(dim=-1, keepdim=True).expand(resamples, *z.shape[:-1], 1)
    E = exponential(theta.expand(resamples, *theta.shape))
    weights = put_ones(E.div_(E.gather(-1, k)).div_(softmax(theta)).add_(1).pow_(-1 / tau), k)
    y = weights.div_(weights.sum(dim=-1, keepdim=True))
    g_y = (y * g).sum(dim=-1, keepdim=True)
    return (g * y.mean(dim=0) - (y * g_y).mean(dim=0)) / tau
