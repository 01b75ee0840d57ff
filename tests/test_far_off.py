"""The note on estimates that are out of all proportion: when it stands there, and which of the two reasons it gives."""

import pytest
import torch
from torch import Tensor

from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.far_off import steepness
from ils_lightning.diagnose.inputs import check

LOGITS = torch.tensor([[[0.4, 0.0, -0.4]]])
DECIDED = torch.tensor([[[0.5, 0.0, -12.0]]])


def steep(z: Tensor) -> Tensor:
    return -(z + 1e-7).log()[..., 0, 1]


def settled(z: Tensor) -> Tensor:
    """Equal at the two categories that are drawn, with slopes there that are of the size of the third one's cost."""
    return z[..., 0, 2] + z[..., 0, 0].square() - z[..., 0, 0]


def curved(z: Tensor) -> Tensor:
    return (z[..., 0, :] - torch.tensor([0.2, 0.5, 0.3])).square().sum(-1)


@pytest.mark.parametrize(
    ("f", "logits", "says"), [(steep, LOGITS, "slopes promise"), (settled, DECIDED, "which is nearly 0")]
)
def test_many_estimates_far_off_get_a_note_with_its_reason(f, logits, says):
    report = gradient_report(f, logits, ["StraightThrough", "LeaveOneOut"], draws=64)
    assert report.remark.startswith("note: 1 of these 2 estimators are off by more than 1,000 %")
    assert says in report.remark
    assert says in " ".join(str(report).split())


def test_estimates_in_proportion_get_none():
    assert gradient_report(curved, LOGITS, ["StraightThrough", "LeaveOneOut"], draws=64).remark == ""


def test_steepness_is_what_slopes_promise_over_what_happens():
    slope = torch.tensor([1.0, 2.0, 3.0])

    def times(factor: float):
        return lambda z: ((1 - factor) * z.detach() + factor * z)[..., 0, :] @ slope  # slopes `factor` times too steep

    for factor in (1.0, 20.0):
        f = times(factor)
        assert steepness(LOGITS, f, check(LOGITS, f)) == pytest.approx(factor, rel=1e-5)
