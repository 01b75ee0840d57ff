"""Why many estimates are out of all proportion: slopes that promise more than happens, or a gradient of nearly 0."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ils_lightning.diagnose.inputs import Facts
from ils_lightning.diagnose.rows import Row
from ils_lightning.estimators import Estimator, Loss, evaluate
from ils_lightning.estimators.coupling import followed

FAR = 10.0
"""A relative bias, 1,000 per cent, beyond which figures of bias and variance tell nothing more."""
_MANY = 0.25
"""The share of the rows from which on a reader is told why."""
_STEEP = 10.0
_DRAWS = 32


def remark(rows: Sequence[Row], named: Mapping[str, Estimator], logits: Tensor, f: Loss, facts: Facts) -> str:
    """Returns a note on the rows that use slopes and are biased by more than `FAR`, if there are many; else nothing."""
    measured = [row for row in rows if not row.not_applicable]
    far = [row for row in measured if row.relative_bias > FAR and named[row.name].needs_gradient]
    if not far or len(far) < _MANY * len(measured):
        return ""
    about = (
        f"note: {len(far)} of these {len(measured)} estimators are off by more than {100 * FAR:,.0f} %. They reckon "
        "from slopes df/dz at the draw what another category would cost"
    )
    if (times := steepness(logits, f, facts)) > _STEEP:
        return (
            f"{about}, and this loss is so steep there (a logarithm near 0 is) that slopes promise "
            f"{float(f'{times:.1g}'):,.0f} times what happens: the length of their estimates means nothing here. "
            "'scaled' and 'cosine' tell what is left where it is taken out, as Adam does; estimators without slopes, "
            "such as LeaveOneOut, have the right length"
        )
    return (
        f"{about}, which is their bias; here it is large beside the gradient, which is nearly 0, as where a training "
        "has ended"
    )


@torch.no_grad()
def steepness(logits: Tensor, f: Loss, facts: Facts) -> float:
    """How many times what f changes by, from a draw to any other state, its slopes at the draw promise."""
    z = followed(logits, facts.ones).draw(_DRAWS).to(logits.dtype)
    anywhere = torch.where(logits > float("-inf"), 0.0, logits)
    other = followed(anywhere, facts.ones).draw(_DRAWS).to(logits.dtype)
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        loss = evaluate(f, leaf)
        (g,) = torch.autograd.grad(loss.sum(), leaf)
    promised = (g * (other - z)).sum(dim=(-2, -1))
    happens = evaluate(f, other) - loss.detach()
    return (promised.norm() / happens.norm().clamp(min=1e-30)).item()
