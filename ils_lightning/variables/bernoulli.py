"""Bernoulli variables: x = 0 or 1, theta the log-odds; as a categorical, K = 2 with logits (0, theta)."""

from ils_lightning.variables.binomial import Binomial


class Bernoulli(Binomial):
    """One trial. Serves every estimator, those for two categories included, and `ILSNatural`.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import DisArm
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = Bernoulli()(DisArm(), theta, lambda x: (x[..., 0] - 0.45).square())
        >>> loss.sum().backward()
    """

    def __init__(self) -> None:
        super().__init__(trials=1)
