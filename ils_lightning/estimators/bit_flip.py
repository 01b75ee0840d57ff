"""Gradient Estimation for Binary Latent Variables via Gradient Variance Clipping (Kunes et al., 2022, 2208.06124).

    b ~ Bernoulli(p), i uniform on the D latents;   b1, b0 = b with b_i set to 1 and to 0
    bit-flip estimate for t: component i is D p_i (1 - p_i) (f(b1) - f(b0)), the others are 0

Unbiased for any f. One of b1, b0 is the draw b itself; the other is no draw of the model, so it trains nothing in f.
The paper's UGC, which takes this for some latents and DisARM for the others by their variances, is not here.
"""

import torch
from torch import Tensor

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import one_hot


class BitFlip(Estimator):
    """Flips one latent of the draw, chosen at random, and looks what the loss does.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> BitFlip()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
        >>> (logits.grad[0] != 0).sum().item()      # both categories of one latent
        2
    """

    source = "Kunes et al. 2022, 2208.06124"
    equation = r"""
        b &\sim \mathrm{Bernoulli}(p) \\
        i &\sim \mathrm{Uniform}\{1, \dots, D\} \\
        b^1, b^0 &= b \text{ with } b_i \text{ set to 1 and to 0} \\
        \hat\nabla_{t_i} &= D \, p_i (1 - p_i) \left(f(b^1) - f(b^0)\right), \quad \text{the others are 0}
    """
    kind = "finite difference"
    cost = "2"
    calls = 2
    unbiased = True
    exact_for = "all"
    binary = True

    def evaluations(self, latents: int, categories: int) -> int:
        return 2

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        chosen = self._choose(p)
        b = bernoulli.draw(p, q, samples=1)
        flipped = torch.where((chosen * p * q) > 0, 1 - b, b)  # a masked category is never shown to f
        loss = evaluate(f, bernoulli.one_hot(b).to(logits.dtype))
        with torch.no_grad():
            other = evaluate(f, bernoulli.one_hot(flipped).to(logits.dtype))
        difference = (loss - other).detach().unsqueeze(-1) * (2 * b - 1)
        estimate = bernoulli.to_logits((p.shape[-1] * chosen * p * q * difference).squeeze(0))
        return loss.squeeze(0), estimate.to(logits.dtype)

    def _choose(self, p: Tensor) -> Tensor:
        """One-hot choice of a latent for each row, `[*batch, latents]`."""
        u = torch.rand(p.shape[:-1], dtype=torch.float64, device=p.device)
        return one_hot((u * p.shape[-1]).long(), like=p)
