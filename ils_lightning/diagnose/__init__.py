"""Which gradient estimator for my loss? `gradient_report` measures them on it, against the exact gradient.

A loss that is code with a distribution, a quantizer or a router inside is made a function of one of its draws by
`problem_of_draw`.

>>> import torch
>>> from ils_lightning.diagnose import gradient_report
>>> logits, target = torch.zeros(4, 2, 3), torch.tensor([0.1, 0.4])
>>> def f(z):                                                    # [samples, *batch, latents, categories]
...     return (z[..., 0] - target).square().sum(-1)             # [samples, *batch]
>>> report = gradient_report(f, logits, ["ReinMax", "LeaveOneOut"], draws=1000)
>>> sorted(row.name for row in report.applicable if row.relative_bias < 0.2)
['LeaveOneOut', 'ReinMax']
"""

from ils_lightning.diagnose.closure import problem_of_draw
from ils_lightning.diagnose.report import gradient_report
from ils_lightning.diagnose.rows import GradientReport, Row

__all__ = ["GradientReport", "Row", "gradient_report", "problem_of_draw"]
