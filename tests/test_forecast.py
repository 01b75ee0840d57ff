"""What a report of a slow loss says before it begins: how many calls, how long, and what for."""

import pytest
import torch
from torch import Tensor

from ils_lightning.diagnose import forecast, gradient_report
from ils_lightning.diagnose.forecast import Call, Work, timed, words
from ils_lightning.diagnose.inputs import check

LOGITS = torch.tensor([[[0.4, 0.0, -0.4], [1.0, 0.0, 0.0]]])


class Counted:
    """A loss that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += 1
        return z[..., 0].sum(-1).square()


def asked(monkeypatch, call: Call, **options) -> Counted:
    monkeypatch.setattr(forecast, "timed", lambda *_: call)
    f = Counted()
    gradient_report(f, LOGITS, **options)
    return f


SLOW = Call(10.0, 1.0, peak=1000, total=1000)


@pytest.mark.parametrize("estimators", [["ReinMax"], ["Reinforce"], ["LeaveOneOut", "ILSNewton"]], ids=str)
@pytest.mark.parametrize("exact", [True, False])
def test_the_calls_that_are_told_are_nearly_those_that_are_made(estimators, exact, monkeypatch, capsys):
    f = asked(monkeypatch, SLOW, estimators=estimators, draws=320, exact=exact)
    line = capsys.readouterr().err
    told = float(line.split("about ")[1].split(" calls")[0].replace(",", ""))
    assert told <= f.calls <= told + 40 + 10 * len(estimators)  # checks, and timing at the end


def test_it_says_what_for_the_longest_first(monkeypatch, capsys):
    asked(monkeypatch, SLOW, estimators=["ILSNewton"], draws=64, settle=10)
    line = capsys.readouterr().err
    assert line.startswith("note: about ")
    assert line.count("\n") == 1
    assert line.index("for settle=10") < line.index("for draws=64")
    asked(monkeypatch, SLOW, estimators=["ILSNewton"], draws=64, settle=0)
    assert "settle=" not in capsys.readouterr().err


def test_a_quick_loss_is_measured_without_a_word(monkeypatch, capsys):
    asked(monkeypatch, Call(1e-6, 1e-7, 1000, 1000), estimators=["ILSNewton"], draws=64)
    assert capsys.readouterr().err == ""


def test_it_is_told_before_the_work_and_changes_no_number(monkeypatch):
    plain = gradient_report(Counted(), LOGITS, ["LeaveOneOut"], draws=64, memory=1)
    f = Counted()
    monkeypatch.setattr(forecast, "LONG", 0.0)
    seen = []
    monkeypatch.setattr(forecast.sys.stderr, "write", lambda _: seen.append(f.calls))
    told = gradient_report(f, LOGITS, ["LeaveOneOut"], draws=64, memory=1)
    assert seen[0] < 30
    assert f.calls > 64
    assert told.rows[0].relative_bias == plain.rows[0].relative_bias


def test_a_call_that_is_slow_is_not_tried_on_many_draws(monkeypatch):
    f = Counted()
    facts = check(LOGITS, f)
    monkeypatch.setattr(forecast, "_SLOW", -1.0)
    widest = []
    monkeypatch.setattr(forecast, "_call", lambda f, z, facts: widest.append(len(z)) or z)
    call = timed(LOGITS, f, facts)
    assert max(widest) == 1
    assert call.each == call.one


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(9.9, None), (12.0, "12 seconds"), (119.0, "120 seconds"), (900.0, "15 minutes"), (9e3, "2.5 hours")],
)
def test_spans_are_in_a_unit_that_a_reader_knows(seconds, said):
    line = words([Work(1, 1, "draws=64")], Call(seconds, 0.0, 0, 0))
    assert (line and line.split(", ")[1].split(":")[0]) == said
