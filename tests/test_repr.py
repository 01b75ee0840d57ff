"""What objects show of themselves: estimators every option, reports a table that fits the terminal."""

import ast
import inspect
import re
from html.parser import HTMLParser

import pytest
import torch
from examples import EXAMPLES, Example
from torch import nn

from ils_lightning import estimators
from ils_lightning.describe import options
from ils_lightning.diagnose import GradientReport, gradient_report
from ils_lightning.estimators import Average, Estimator, Hellinger, ILSNewton, MovingAverage, Reinforce, ReinMax
from ils_lightning.networks import Network

NAMES = {**vars(estimators), "float": float}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_estimator_names_every_option_and_is_made_again_of_its_words(example: Example):
    estimator = example.make()
    call = ast.parse(repr(estimator), mode="eval").body
    assert isinstance(call, ast.Call)
    assert [keyword.arg for keyword in call.keywords] == list(inspect.signature(type(estimator)).parameters)
    again = eval(repr(estimator), dict(NAMES))
    assert type(again) is type(estimator)
    given = {keyword.arg: eval(ast.unparse(keyword.value), dict(NAMES)) for keyword in call.keywords}
    plain = {name: value for name, value in options(estimator).items() if not isinstance(value, dict)}
    assert {name: given[name] for name in plain} == plain
    assert repr(again) == repr(estimator)


def test_nested_objects_are_named_with_their_options_in_one_line():
    assert repr(Average(Reinforce(baseline=MovingAverage(0.5)), samples=3)) == (
        "Average(estimator=Reinforce(samples=1, baseline=MovingAverage(decay=0.5)), samples=3)"
    )
    assert repr(Hellinger()) == "Hellinger()"
    assert "(1): ReinMax(temperature=1.3)" in repr(nn.Sequential(nn.Identity(), ReinMax(1.3)))


def test_an_option_that_was_scheduled_is_shown_as_it_is_now():
    estimator = ReinMax(temperature=1.0)
    estimator.option("temperature", 2.5)
    assert repr(estimator) == "ReinMax(temperature=2.5)"
    assert repr(ReinMax(temperature=[1.0, 1.5])) == "ReinMax(temperature=[1.0, 1.5])"


class OfAnyWords(Estimator):
    """An estimator of a user's own, with arguments of any name."""

    def __init__(self, size: int, *more: int, **words: float) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)


def test_an_estimator_of_ones_own_shows_what_it_was_given():
    assert repr(OfAnyWords(2, 3, rate=0.5)) == "OfAnyWords(size=2, more=[3], rate=0.5)"


class Layers(Network):
    """A network of a user's own."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)


def test_a_network_shows_its_options_and_its_layers():
    shown = repr(Layers(4))
    assert "width=4" in shown
    assert "(layer): Linear(in_features=4, out_features=2, bias=True)" in shown


@pytest.fixture(scope="module")
def report() -> GradientReport:
    chosen = ["ReinMax", "LeaveOneOut", "Exact", "DisArm", "DecoupledStraightThroughGumbelSoftmax", ILSNewton(ridge=1)]
    target = torch.tensor([0.1, 0.4])
    logits = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 0.5, 0.2]]])
    return gradient_report(
        lambda z: (z[..., 0] - target).square().sum(-1), logits, chosen, draws=64, settle=1, title="two"
    )


def test_a_report_prints_as_an_aligned_table_of_80_columns(report):
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert str(report).isascii()
    assert "exact: every one of 3 ** 2 = 9 states" in " ".join(lines)
    assert "not applicable: DisArm" in " ".join(lines)
    assert "all columns are in report.rows" in " ".join(" ".join(lines).split())
    (head,) = [line for line in lines if line.startswith("  estimator ")]
    assert {"bias", "variance", "cosine"} <= set(head.split())
    for name in ("ReinMax", "LeaveOneOut", "DecoupledStraight", "ILSNewton(ridge=1)"):
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        for column in list(re.finditer(r"\S+(?: \S+)*", head))[1:]:
            assert line[column.end() - 1] != " "
            assert line[column.end() :].startswith(" ") or len(line) == column.end()


def test_a_table_says_where_a_reference_stands_in_for_the_truth():
    report = gradient_report(lambda z: z[..., 0].sum(-1), torch.zeros(1, 2, 3), ["ReinMax", "Exact"], 64, limit=8)
    words = " ".join(str(report).split())
    assert re.search(r"reference: mean of [\d,]+ estimates of LeaveOneOut, standard error [\d.]+%", words)
    assert "not applicable: Exact: 3 ** 2 states are too many to enumerate" in words


def test_what_a_report_and_its_rows_say_of_themselves_is_short(report):
    assert repr(report).startswith("GradientReport('two', Exact, ")
    assert report.truth in repr(report)
    assert len(repr(report)) < 200
    assert max(len(repr(row)) for row in report.rows) < 200
    assert repr(report.rows[0]).startswith("Row('Exact', relative_bias=0, ")


class Cells(HTMLParser):
    """Collects the text of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def test_a_notebook_gets_a_table_of_every_column(report):
    cells = Cells(report._repr_html_()).found
    assert {"estimator", "error", "memory", "ReinMax", "LeaveOneOut"} <= set(cells)
    assert any(report.truth in cell for cell in cells)
    assert not any(re.search(r"\d %", cell) for cell in cells)  # a number and its unit stay together
