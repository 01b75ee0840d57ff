"""RODEO: Gradient Estimation with Discrete Stein Operators (Shi, Zhou, Hwang, Titsias and Mackey, 2022, 2202.09497).

    b_1..b_S ~ Bernoulli(p), f_k = f(b_k), G_k = df/db at b_k, gl_k and fl_k = means of the other G_j and f_j
    (h1_k, h2_k)(y) = net(gl_k.y - mean of the other G_j.b_j, fl_k), a surrogate of f that has not seen draw k
    (A h)(b) = mean_i w_i [h(b with b_i flipped) - h(b)],   w_i = p_i (1 - b_i) + (1 - p_i) b_i,   so E A h = 0
    estimate for t = 1/S sum_k [ (f_k - mean of the other (f_j + a (A h1_j)(b_j)))(b_k - p)
                                 + beta A[h2_k(y) (y - p)](b_k) ]

Unbiased for any net, a and beta. For S > 2 the net sees means over the other draws; the published program averages the
net's outputs over them, at S - 1 times the calls of the net. With two draws both are the same.
"""

import torch
from torch import Tensor, nn

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Loss
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.estimators.several import Several


class Rodeo(Several):
    """Leave-one-out REINFORCE with Stein control variates from a learnt surrogate; f is called once a draw.

    The net, a and beta are parameters: they learn by the gradient of |estimate|^2 in the model's optimiser (rate 1e-3
    in the paper). The net's last layer starts at zero, so that the estimate starts as leave-one-out REINFORCE.

    Args:
        samples: draws a row, at least 2.
        hidden: units of the net's hidden layer.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> Rodeo(samples=2)(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Shi et al. 2022, 2202.09497"
    equation = r"""
        b_1, \dots, b_S &\sim \mathrm{Bernoulli}(p) \\
        f_k &= f(b_k) \\
        G_k &= \nabla f(b_k) \\
        (h_{1k}, h_{2k})(y) &=
            \mathrm{net}\left(\overline{G}_{-k} \cdot y - \overline{G \cdot b}_{-k}, \overline{f}_{-k}\right) \\
        (A h)(b) &= \overline{w_i \left[h(b^{\text{flip } i}) - h(b)\right]} \\
        w_i &= p_i (1 - b_i) + (1 - p_i) \, b_i \\
        \hat\nabla_t &= \frac{1}{S} \sum_k
            \left[\left(f_k - \overline{(f_j + a \, (A h_{1j})(b_j))}_{-k}\right) (b_k - p)
            + \beta \, A[h_{2k}(y)(y - p)](b_k)\right]
    """
    needs_gradient = True
    uncompiled = ASKS_DERIVATIVES
    binary = True

    def __init__(self, samples: int = 2, hidden: int = 100) -> None:
        super().__init__(samples)
        self.whole("hidden", hidden, 1)
        self.a = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))
        last = nn.Linear(hidden, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(), last)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b = bernoulli.draw(p, q, self.samples)
        loss, slope = bernoulli.loss_and_slope(type(self).__name__, f, bernoulli.one_hot(b).to(logits.dtype))
        finite, f_b, slope = bernoulli.of_finite_rows(loss, slope.to(p.dtype))
        with torch.enable_grad():
            gradient = self._combine(f_b, slope, b, p, q)
            gradient = torch.where(finite.unsqueeze(-1), gradient, float("nan"))
        return loss.mean(dim=0), bernoulli.to_logits(gradient).to(logits.dtype)

    def _combine(self, loss: Tensor, slope: Tensor, b: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """The estimate for t `[*batch, latents]` from f and G at the draws b `[samples, *batch, latents]`."""
        h, h_flipped = self._surrogates(loss, slope, b)
        w = p * (1 - b) + q * b
        stein = w.unsqueeze(-1) * (h_flipped - h.unsqueeze(-2))  # w_i [h(flip i) - h], both surrogates
        baseline = bernoulli.leave_one_out_mean(loss + self.a * stein[..., 0].mean(dim=-1))
        control = stein[..., 1].mean(dim=-1, keepdim=True) * (b - p)
        control = control + w * (1 - 2 * b) * h_flipped[..., 1] / b.shape[-1]  # (flip i of y) - p moves in i by 1 - 2 y
        return ((loss - baseline).unsqueeze(-1) * (b - p) + self.beta * control).mean(dim=0)

    def _surrogates(self, loss: Tensor, slope: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(h1, h2) of sample k at b_k `[samples, *batch, 2]`, and with each latent flipped `[..., latents, 2]`."""
        others = bernoulli.leave_one_out_mean(slope)
        x = (others * b).sum(dim=-1) - bernoulli.leave_one_out_mean((slope * b).sum(dim=-1))
        points = torch.cat((x.unsqueeze(-1), x.unsqueeze(-1) + others * (1 - 2 * b)), dim=-1)
        means = bernoulli.leave_one_out_mean(loss).unsqueeze(-1).expand_as(points)
        h = self.net(torch.stack((points, means), dim=-1).to(self.a.dtype)).to(b.dtype)
        return h[..., 0, :], h[..., 1:, :]
