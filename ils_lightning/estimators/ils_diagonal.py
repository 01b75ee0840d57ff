"""ILS with a diagonal curvature: state and cost linear in the number of categories (this project).

    estimate = M_s (g - h z) + 1/2 J_pi h,   d = z - pi
    residual rho = g - h z;   c = sum_b (rho - pi.rho) d;   h <- (D h + c) / (D + u)
    D = max of the moving sums of d^2 and of pi (1 - pi),   u = 2 (1 - decay) max(0, O - 2 Z)
    Z, O = moving sums of z d^2, and of pi_k pi_j where another category j is drawn

The recursion settles where E c = 0, whatever D, and there the estimate's expectation is ReinMax's for every f (see
`family`), also when the curvature is not diagonal. The plain ratio of the moving sums of (g - pi.g) d and pi (1 - pi)
costs the same but settles at h_k (1 - pi_k) + sum_{j != k} pi_j^2 h_j / (1 - pi_k), which is biased; the direct
solution needs a K x K system. E c is linear in the error of h, with a row-diagonally dominant matrix of positive
diagonal not above D: the recursion is stable. That matrix is the mean of one with Z on its diagonal and rows of O
beside it. Where a category is due in the rows but has not been drawn, Z stays behind O and h would grow without an
answer, by a tenth a step where all rows are settled; u holds it back until the draws have come, and is 0 otherwise.

A diagonal plus low rank was tried for K in the hundreds and thousands and does not pay. With a low rank that is known,
not learnt, on a loss whose curvature has rank 16 (100 unlike rows; `python experiments/large_table.py`), base 0 has
squared bias .127, .093 and .088 of the gradient's square at K = 128, 512 and 4096, where straight-through has .173,
.130 and .123; variances are .35, .29 and .26 against .48, .37 and .34. There is little to win, because a draw that is
one of many moves the loss little; what decides is the base, whose share of the noise grows with K (variance of
`ReinMax` 37, 97 and 803, of base .5 with the known curvature 2.8, 8.2 and 60). And a curvature must be learnt from
draws of each category: the diagonal does as well as the known one at K = 128, no better than straight-through at 512,
and far worse at 4096 (squared bias 1.9), where a category is seen once in forty steps.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.family import SMALLEST_TRACE, Curved, delta

HELD_BACK = 2.0
"""Of what other categories' draws do to a category that is due but not drawn: above 1, so that h stays bounded."""


class ILSDiagonal(Curved):
    """Removes from the estimate what a pooled diagonal curvature explains of the draw's own noise.

    For more categories than `ILSNewton` can afford (about 64), and a good choice below: its expectation is as close to
    ReinMax's, without a ridge, and its variance a little higher. Rows whose curvatures differ share one h, as there,
    and each layer needs its own instance. Use it while a step has about as many rows as there are categories, and base
    0 from a hundred categories on; with far fewer rows than categories prefer `StraightThrough`.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias; above 1 both grow.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 300, requires_grad=True)
        >>> estimator = ILSDiagonal()
        >>> estimator(logits, lambda z: z[..., 0].square().sum(-1)).sum().backward()
        >>> estimator.h.shape
        torch.Size([1, 300])
    """

    equation = r"""
        d &= z - \pi \\
        \rho &= g - h z \\
        M_s v &= \frac{J_\pi v + s^2 d \, (d \cdot v)}{1 + s^2} \\
        \hat\nabla &= M_s \rho + \tfrac{1}{2} J_\pi h \\
        c &= \sum_b (\rho - \pi \cdot \rho) \, d \\
        h &\leftarrow \frac{D h + c}{D + u} \\
        D &= \max\left(\langle d^2 \rangle, \langle \pi (1 - \pi) \rangle\right) \\
        u &= 2 (1 - \text{decay}) \max(0, O - 2 Z) \\
        Z &= \langle z d^2 \rangle \\
        O &= \langle \pi_k \pi_j \rangle \text{ where another category } j \text{ is drawn}
    """

    statistics = ("h", "D")
    h: Tensor
    D: Tensor

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return (latents, categories), (latents, 4, categories)

    def curvature(self) -> Tensor:
        return self.h

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        d, rho = z - pi, g - self.h.to(pi.dtype) * z
        others = (1 - z) * pi * (pi * z).sum(dim=-1, keepdim=True)
        seen = [d.square(), pi * (1 - pi), z * d.square(), others]
        return (delta(rho, pi) * d).sum(dim=0), torch.stack(seen, dim=2).sum(dim=0)

    def learn(self, *sums: Tensor) -> tuple[Tensor, ...]:
        c, seen = sums
        D = self.past * self.D + seen
        size, own, others = D[:, :2].amax(dim=1), D[:, 2], D[:, 3]
        unanswered = HELD_BACK * (1 - self.past) * (others - 2 * own).clamp(min=0)
        change = (c - unanswered * self.h) / (size + unanswered).clamp(min=SMALLEST_TRACE)
        return self.h + torch.where(size < SMALLEST_TRACE, 0, change), D
