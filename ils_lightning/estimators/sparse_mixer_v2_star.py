"""SparseMixer-v2* (Liu et al., 2024, 2409.12136, appendix A): `sparse_mixer_v2` as its authors intended it.

D ~ p = softmax(theta);   f sees a p_D at expert D, with a = 1 if D = argmax p or B, else 1/3,   B ~ Bernoulli(5/8)
estimate = 2 g_D dp_D / dtheta
"""

from typing import ClassVar, Literal

from ils_lightning.estimators.sparse_mixer_v2 import SparseMixerV2


class SparseMixerV2Star(SparseMixerV2):
    """`SparseMixerV2` as its authors intended it: with the gate's own gradient.

    Args:
        jitter: as in `SparseMixer`.

    Example:
        >>> import torch
        >>> (SparseMixerV2Star().sample(torch.zeros(2, 1, 4)) > 0).sum(-1)
        tensor([[1],
                [1]])
    """

    equation = r"""
        D &\sim \pi \\
        B &\sim \mathrm{Bernoulli}(5/8) \\
        & f \text{ sees the weight } a \pi_D \text{ at expert } D \\
        a &= 1 \text{ if } D = \argmax \pi \text{ or } B = 1, \text{ else } 1/3 \\
        \hat\nabla &= 2 \, g_D \, \frac{\partial \pi_D}{\partial \theta}
    """

    chance: ClassVar[float] = 5 / 8
    factor: ClassVar[Literal[1, 2]] = 2
