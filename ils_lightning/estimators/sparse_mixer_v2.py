"""SparseMixer-v2 (Liu et al., 2024, 2409.12136, appendix A): Heun's third-order rule, as released and as intended.

    D ~ p = softmax(theta);   f sees a p_D at expert D, with a = 1 if D = argmax p or B, else 1/3
    released (v2):    B ~ Bernoulli(1/4),   estimate = g_D dp_D / dtheta
    intended (v2*):   B ~ Bernoulli(5/8),   estimate = 2 g_D dp_D / dtheta

Heun's rule, f(x) - f(0) = x [1/4 f'(x) + 3/4 f'(x / 3)], is exact for cubics. Its authors say that the released form
comes from an error in the derivation: its objective, their equation 7, holds the gate fixed, so that the gate's own
gradient f'(x) is left out. v2* has the objective of `SparseMixer`:
2 [5/8 f'(x) + 3/8 f'(x / 3)] is Heun's rule and f'(x).
"""

from typing import ClassVar, Literal

from ils_lightning.estimators.sparse_mixer import SparseMixer


class SparseMixerV2(SparseMixer):
    """`SparseMixer` with Heun's rule as GRIN and Phi-3.5-MoE trained with it: without the gate's own gradient.

    Args:
        jitter: as in `SparseMixer`.

    Example:
        >>> import torch
        >>> (SparseMixerV2().sample(torch.zeros(2, 1, 4)) > 0).sum(-1)
        tensor([[1],
                [1]])
    """

    source = "Liu et al. 2024, 2409.12136"
    equation = r"""
        D &\sim \pi \\
        B &\sim \mathrm{Bernoulli}(1/4) \\
        & f \text{ sees the weight } a \pi_D \text{ at expert } D \\
        a &= 1 \text{ if } D = \argmax \pi \text{ or } B = 1, \text{ else } 1/3 \\
        \hat\nabla &= g_D \, \frac{\partial \pi_D}{\partial \theta}
    """
    chance: ClassVar[float] = 1 / 4
    shorter: ClassVar[float] = 1 / 3
    factor: ClassVar[Literal[1, 2]] = 1
