"""ARSM: Augment-REINFORCE-Swap-Merge Estimator for Gradient Backpropagation Through Categorical Variables.

Yin, Yue and Zhou, 2019, 1905.01413.

    v ~ Dirichlet(1_K) per latent;   z = argmin_i v_i exp(-theta_i)
    z^{c~j} = the same with entries c and j of v swapped, the same pair in all latents at once;   F_cj = f(z^{c~j})
    estimate_c = sum_j (F_cj - 1/K sum_m F_mj)(1/K - v_j)

Unbiased. F is symmetric and F_cc = f(z), so K(K-1)/2 + 1 evaluations of f serve; parameters of f learn at z alone.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import exponential, one_hot

_ELEMENTS = 2**22  # numbers in the draws handed to f at once


class Arsm(Estimator):
    """Compares f at the draws obtained by swapping every pair of categories' noise.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Arsm()(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Yin et al. 2019, 1905.01413"
    equation = r"""
        v &\sim \mathrm{Dirichlet}(1_K) \\
        z &= \argmin_i v_i e^{-\theta_i} \\
        z^{cj} &= \text{the same with } v_c \text{ and } v_j \text{ swapped} \\
        F_{cj} &= f(z^{cj}) \\
        \hat\nabla_c &= \sum_j \left(F_{cj} - \frac{1}{K} \sum_m F_{mj}\right) \left(\frac{1}{K} - v_j\right)
    """
    cost = "K * (K - 1) // 2 + 1"
    calls = 2
    unbiased = True
    exact_for = "all"

    def evaluations(self, latents: int, categories: int) -> int:
        return categories * (categories - 1) // 2 + 1

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        theta = logits.detach().double()
        noise = exponential(theta)
        v = noise / noise.sum(dim=-1, keepdim=True)
        z = one_hot((v.log() - theta).argmin(dim=-1), logits)
        loss = evaluate(f, z.unsqueeze(0)).squeeze(0)
        swapped = self._swapped_losses(theta, v, loss.detach(), lambda index: evaluate(f, one_hot(index, logits)))
        centred = swapped - swapped.mean(dim=-2, keepdim=True)
        estimate = torch.einsum("...cj,...lj->...lc", centred, 1 / theta.shape[-1] - v)
        return loss, estimate.to(logits.dtype)

    @staticmethod
    def _swapped_losses(theta: Tensor, v: Tensor, loss: Tensor, f: Loss) -> Tensor:
        """F `[*batch, categories, categories]` from f(z) `[*batch]` on the diagonal and f of every pair's swap."""
        categories = theta.shape[-1]
        table = loss.double()[..., None, None].repeat(*[1] * loss.dim(), categories, categories)
        pairs = torch.triu_indices(categories, categories, offset=1, device=theta.device).T
        for some in pairs.split(max(1, _ELEMENTS // max(1, theta.numel()))):
            c, j = some.unbind(dim=-1)
            order = torch.arange(categories, device=theta.device).repeat(len(some), 1)
            order = order.scatter(1, some, some.flip(-1))
            index = (v.log()[..., order] - theta.unsqueeze(-2)).argmin(dim=-1)  # [*batch, latents, pairs]
            with torch.no_grad():
                values = f(index.movedim(-1, 0)).movedim(0, -1).double()
            table[..., c, j] = values
            table[..., j, c] = values
        return table
