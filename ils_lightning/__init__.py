"""Gradient estimators for categorical variables, in any model, by one config line.

The problem: a network draws z ~ Categorical(logits), pays a loss f(z), and wants d E f(z) / d logits. The draw has no
derivative. An `Estimator` calls f itself and delivers an estimate of that gradient:

    >>> import torch
    >>> from ils_lightning.estimators import ReinMax
    >>> logits = torch.zeros(100, 8, 4, requires_grad=True)          # [*batch, latents, categories]
    >>> target = torch.rand(100, 8)
    >>> def f(z):                                                    # [samples, *batch, latents, categories]
    ...     return (z[..., 0] - target).square().sum(-1)             # [samples, *batch]
    >>> loss = ReinMax()(logits, f)                                  # [*batch]; the printed loss is the loss
    >>> loss.mean().backward()                                       # the estimate arrives at the logits

Change the class to change the estimator: `ILS` (this project's home method), `StraightThrough`, `GumbelSoftmax`,
`LeaveOneOut`, `Exact` ... see `ils_lightning.estimators`. Whatever f holds (a decoder, say) gets its own exact
gradient. From the shell, `python -m ils_lightning fit` trains with PyTorch Lightning; `--model.estimator ReinMax`
switches the estimator.
"""

from ils_lightning.errors import Refusal

__all__ = ["Refusal"]
__version__ = "0.1.0"
