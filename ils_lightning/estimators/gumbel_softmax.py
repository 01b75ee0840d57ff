"""Gumbel-Softmax / Concrete (Jang, Gu and Poole, 2016, 1611.01144; Maddison, Mnih and Teh, 2016, 1611.00712).

y = softmax((theta + G) / tau), G standard Gumbel;   f sees the soft y;   estimate = (1/tau) J(y) df(y)
"""

from torch import Tensor

from ils_lightning.estimators.base import Loss, Option, evaluate, per_row
from ils_lightning.estimators.categorical import gumbel, jacobian, softmax
from ils_lightning.estimators.sampler import Sampler


class GumbelSoftmax(Sampler):
    """Differentiates through a relaxed draw: f sees points inside the simplex, and its own parameters train there.

    The loss trained is that of relaxed draws; validation, KL terms and codes of models are those of softmax(logits),
    the law of a relaxed draw's largest category.

    Args:
        temperature: tau; small is close to a draw and noisy, large is smooth and blurred.

    Example:
        >>> import torch
        >>> GumbelSoftmax(temperature=0.5).sample(torch.zeros(2, 1, 3)).shape
        torch.Size([2, 1, 3])
    """

    source = "Jang et al. 2016, 1611.01144"
    equation = r"""
        y &= \operatorname{softmax}((\theta + G) / \tau) \\
        \hat\nabla &= \frac{1}{\tau} J_y \, \nabla f(y)
    """
    hard = False
    closed_form = True

    def __init__(self, temperature: Option = 1.0) -> None:
        super().__init__()
        self.option("temperature", temperature)

    def sample(self, logits: Tensor) -> Tensor:
        theta = logits.float() if logits.element_size() < 4 else logits
        y = softmax((theta + gumbel(theta)) / per_row(self.temperature, logits))
        return y.to(logits.dtype)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        gradient = getattr(f, "closed_form_gradient", None)
        if gradient is None:
            return super().estimate(logits, f)
        y = self.sample(logits.detach())
        return evaluate(f, y.unsqueeze(0)).squeeze(0), jacobian(y, gradient(y)) / per_row(self.temperature, logits)
