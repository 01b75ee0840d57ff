"""Which gradient estimator for my loss? `gradient_report` measures them on it, against the exact gradient.

>>> import torch
>>> from ils_lightning.diagnose import gradient_report
>>> logits, target = torch.randn(4, 2, 3), torch.rand(4, 2)
>>> def f(z):                                                    # [samples, *batch, latents, categories]
...     return (z[..., 0] - target).square().sum(-1)             # [samples, *batch]
>>> report = gradient_report(f, logits, ["ReinMax", "LeaveOneOut"], draws=1000)
>>> report.rows[0].name, report.rows[0].relative_bias < 0.1
('ReinMax', True)
"""

from ils_lightning.diagnose.report import GradientReport, Row, gradient_report

__all__ = ["GradientReport", "Row", "gradient_report"]
