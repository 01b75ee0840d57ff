"""One draw for the logits, several for what is inside f: whose noise costs, the encoder's or the decoder's?

`PYTHONPATH=experiments python -m ils_lightning compare experiments/extra_draws.yaml` trains the MNIST autoencoder so,
beside one draw for both and several for both.
"""

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator, Loss
from ils_lightning.estimators.loss import evaluate


class ExtraDraws(Estimator):
    """The mean loss over draws, of which the first alone estimates the logits' gradient.

    Args:
        estimator: of the first draw.
        samples: draws for the gradient of what is inside f.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> ExtraDraws(ReinMax(), 8)(torch.zeros(5, 2, 3), lambda z: z[..., 0].sum(dim=-1)).shape
        torch.Size([5])
    """

    def __init__(self, estimator: Estimator, samples: int = 8) -> None:
        super().__init__()
        self.estimator, self.samples = estimator, self.whole("samples", samples, 2)

    def evaluations(self, latents: int, categories: int) -> int:
        """All draws."""
        return self.estimator.evaluations(latents, categories) + self.samples - 1

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`; a mean over n draws hands the first 1 / n, which the logits get back n times."""
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        n = self.samples
        first = self.estimator(n * logits - (n - 1) * logits.detach(), f)
        pi = self.distribution(logits.detach())
        z = torch.stack([pi.draw().to(logits.dtype) for _ in range(n - 1)])
        return (first + evaluate(f, z).sum(dim=0)) / n
