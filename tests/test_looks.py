"""Every estimator has one look, and figures of reports can be read."""

import math

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ils_lightning import estimators, looks, plots
from ils_lightning.compare.grid import spec
from ils_lightning.compare.report import ranking
from ils_lightning.compare.report.table import Row
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.figure import draw
from ils_lightning.diagnose.page import page
from ils_lightning.diagnose.rows import GradientReport
from ils_lightning.estimators import Estimator, LeaveOneOut
from ils_lightning.report_page import table

PUBLIC = [
    name
    for name in estimators.__all__
    if isinstance(getattr(estimators, name), type)
    and issubclass(getattr(estimators, name), Estimator)
    and "_abstract" not in vars(getattr(estimators, name))
]


def test_every_estimator_of_the_package_has_a_look_of_its_own():
    found = looks.looks(PUBLIC)
    assert set(PUBLIC) == set(found)
    assert set(PUBLIC) - {"Exact"} == set(looks._HOMES)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(PUBLIC)
    for name, look in found.items():
        assert looks.ours(name) == (look.width > 2) == (look.marker in "*PX")


def test_a_look_does_not_depend_on_order_and_seldom_on_what_else_is_shown():
    frequent = looks._HOMES[:8]
    alone = {name: looks.looks([name])[name] for name in PUBLIC}
    assert looks.looks(frequent) == {name: alone[name] for name in frequent}
    assert all(looks.looks([*PUBLIC[::-1]])[name] == alone[name] for name in frequent)
    assert looks.looks(PUBLIC) == looks.looks(PUBLIC[::-1])
    assert looks.looks(["ILSNewton (the model's)", "Exact"])["ILSNewton (the model's)"] == alone["ILSNewton"]
    both = looks.looks(["ILSNewton", "ILSNewton (the model's)"])
    assert both["ILSNewton"] == both["ILSNewton (the model's)"]
    assert looks.looks(["ReinMax(temperature=1.3)"])["ReinMax(temperature=1.3)"] == alone["ReinMax"]
    assert looks.looks(["of my own"]) == looks.looks(["of my own"])


def test_looks_of_one_figure_differ_by_colour_as_long_as_there_are_colours():
    names = ["ReinMax", "ReinMax(temperature=1.3)", "ReinMax(temperature=1.5)", "mine", "theirs", "ILSNewton"]
    assert len({look.colour for look in looks.looks(names).values()}) == 6


@pytest.mark.parametrize(
    ("low", "high"), [(2.1, 4.9), (3.0, 3.0), (1.0, 1.0), (0.05, 0.07), (1e-4, 30.0), (51.0, 99.0), (1e-2, 3000.0)]
)
def test_a_logarithmic_axis_always_has_numbers(low, high):
    axes = Figure().subplots()
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        plots.numbered_log_axis(axis, low, high)
        bottom, top = sorted(axis.get_view_interval())
        assert bottom < low <= high < top
        numbers = [float(label.get_text()) for label in axis.get_ticklabels() if label.get_text()]
        assert sum(bottom <= number <= top for number in numbers) >= 1 + (low < high)
        assert sum(bottom <= number <= top for number in numbers) <= 12


@pytest.mark.parametrize("narrow", [False, True])
def test_a_ranking_has_a_unit_and_the_look_of_every_estimator(narrow):
    names, settings = ["ILSNewton", "ReinMax(1.3)", "mine"], ["L8K4", "L4K24"]
    rows = [
        Row(name, to, seeds=3, measured=20.0 + i, standard_error=0.1) for to in settings for i, name in enumerate(names)
    ]
    comparison = spec.read("compare/vae_digits")
    panels = ranking.draw(comparison, rows, narrow).axes
    expected = looks.looks(names)
    assert [axes.get_title() for axes in panels] == settings
    assert all(axes.get_xlabel() == "test -ELBO (nats)" for axes in panels)
    assert [text.get_text() for text in panels[0].get_yticklabels()] == names
    for axes in panels:
        marks = [(line.get_color(), line.get_marker()) for line in axes.get_lines() if line.get_marker() in ("*", "o")]
        assert marks == [(expected[name].colour, expected[name].marker) for name in names]
    comparison.measure_label = ""
    assert ranking.draw(comparison, rows, narrow).axes[0].get_xlabel() == "test/loss"


def test_an_arrow_to_what_is_far_stands_at_the_end_of_the_axis_whatever_the_bars():
    measured = {"a": (1.0, 0.1), "b": (2.0, 0.1), "c": (2.0, 0.1), "wide": (8.0, 90.0), "far": (100.0, 1.0)}
    rows = [Row(name, "", seeds=3, measured=m, standard_error=e) for name, (m, e) in measured.items()]
    (axes,) = ranking.draw(spec.read("compare/vae_digits"), rows).axes
    (arrow,) = [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == ">"]
    _, end = axes.get_xlim()
    assert 8.0 < arrow < end < 1.1 * arrow


def test_a_figure_keeps_its_layout_for_the_next_file(tmp_path):
    with plots.style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
    plots.save(figure, tmp_path / "before")
    before = axes.get_position().x0
    axes.set_ylabel("a\nlabel\nof many\nlines")
    plots.save(figure, tmp_path / "after")
    assert axes.get_position().x0 > before + 0.05


def test_the_bar_of_what_is_far_makes_no_room_for_itself():
    measured = {"a": (1.0, 0.1), "b": (2.0, 0.1), "c": (2.0, 0.1), "far": (100.0, 90.0)}
    rows = [Row(name, "", seeds=3, measured=m, standard_error=e) for name, (m, e) in measured.items()]
    figure = ranking.draw(spec.read("compare/vae_digits"), rows)
    (axes,) = figure.axes
    start, _ = axes.get_xlim()
    assert 0.0 < start < 0.9
    assert figure.get_supxlabel().endswith("arrow: beyond the axis, its mean beside it")


def test_what_has_no_number_gets_no_arrow():
    rows = [Row(name, "", seeds=3, measured=m, standard_error=0.1) for name, m in {"a": 1.0, "b": math.nan}.items()]
    figure = ranking.draw(spec.read("compare/vae_digits"), rows)
    assert [line for line in figure.axes[0].get_lines() if line.get_marker() == ">"] == []
    assert "arrow" not in figure.get_supxlabel()


def quadratic(z: Tensor) -> Tensor:
    return (z[..., 0] - torch.tensor([0.1, 0.4])).square().sum(-1)


LOGITS = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 0.5, 0.2]]])


class TooLong(LeaveOneOut):
    """Leave-one-out, a thousand times too long."""

    def estimate(self, logits, f):
        loss, estimate = super().estimate(logits, f)
        return loss, 1000 * estimate


class Backwards(LeaveOneOut):
    """Leave-one-out with the wrong sign."""

    def estimate(self, logits, f):
        loss, estimate = super().estimate(logits, f)
        return loss, -estimate


@pytest.fixture(scope="module")
def report() -> GradientReport:
    chosen = {"long": TooLong(16), "right": LeaveOneOut(2), "back": Backwards(), "same": LeaveOneOut(16)}
    chosen |= {"ILSNewton": "ILSNewton", "ReinMax": "ReinMax", "Exact": "Exact"}
    return gradient_report(quadratic, LOGITS, chosen, draws=4000, average=32, settle=1, title="a title")


def test_the_best_scaled_error_is_that_of_the_best_multiple(report):
    row = {row.name: row for row in report.rows}
    assert row["long"].error > 900
    assert row["long"].scaled_error == pytest.approx(row["same"].scaled_error, rel=1e-3)
    assert row["long"].scale == pytest.approx(row["same"].scale / 1000, rel=1e-3)
    assert row["back"].scaled_error == 1
    assert row["back"].scale == 0
    assert row["Exact"].scaled_error == 0
    assert row["Exact"].scale == 1
    torch.manual_seed(1)
    truth = estimators.Exact().estimate(LOGITS, quadratic)[1]
    estimates = LeaveOneOut(2).estimate(LOGITS.expand(40_000, 16, -1, -1), quadratic)[1].mean(dim=1)
    multiples = torch.linspace(0, 1.5, 301)
    errors = [
        ((c * estimates - truth).square().sum(dim=(-2, -1)).mean() / truth.square().sum()).sqrt() for c in multiples
    ]
    best = min(range(301), key=lambda place: errors[place])
    assert row["right"].scaled_error == pytest.approx(errors[best].item(), rel=0.03)
    assert row["right"].scale == pytest.approx(multiples[best].item(), rel=0.03)
    assert row["right"].scaled_error < row["right"].error


def test_advice_names_what_is_better_at_its_best_scale(report):
    rows = [row for row in report.rows if row.name in ("long", "right")]
    said = advice(GradientReport(**{**vars(report), "rows": rows}))
    assert said.startswith("Use right: ")
    assert "At the best scale of each long is better" in said
    assert "to be multiplied by 0.00" in said
    alone = advice(GradientReport(**{**vars(report), "rows": [row for row in rows if row.name == "right"]}))
    assert "best scale" not in alone


@pytest.mark.parametrize(("reports", "narrow"), [(1, False), (1, True), (2, False)])
def test_a_figure_says_quantity_and_unit_and_has_one_colour_for_each_estimator(report, reports, narrow):
    figure = draw([report] * reports, narrow=narrow)
    panels = figure.axes
    assert len(panels) == 2 * reports
    assert all("%" in axes.get_xlabel() or "number of" in axes.get_xlabel() for axes in panels)
    assert all("%" in axes.get_ylabel() or "cosine" in axes.get_ylabel() for axes in panels)
    expected = looks.looks(row.name for row in report.rows)
    curves = [axes for axes in panels if "cosine" in axes.get_ylabel()]
    for axes in curves:
        for line in axes.get_lines():
            (name,) = [name for name in expected if str(line.get_label()).split("  ", 1)[1] == name]
            assert line.get_color() == expected[name].colour
    for axes in panels:
        for axis in (axes.xaxis, axes.yaxis):
            bottom, top = sorted(axis.get_view_interval())
            assert any(bottom <= tick <= top for tick in axis.get_majorticklocs())


@pytest.mark.slow
def test_the_page_has_a_figure_for_wide_and_one_for_narrow_screens(report):
    text = page(report)
    assert text.count("<figure") == 2
    wide, narrow = (text.split(f'<figure class="{kind}"')[1].split("--width: ")[1] for kind in ("wide", "narrow"))
    assert int(wide.split("px")[0]) > 1000
    assert int(narrow.split("px")[0]) < 430


def test_a_wide_table_says_that_it_goes_on():
    style = page_style()
    assert "scroll it" in style
    assert '<div class="scroll"><table>' in table(["a"] * 14, [])


def page_style() -> str:
    from ils_lightning.report_page import page as whole

    return whole("title").split("<style>")[1].split("</style>")[0]


@pytest.mark.parametrize("low", [1e-3, 1e-9, 1e-17])
def test_a_plain_log_axis_has_numbers_over_any_number_of_decades(low):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, 2.0))
    plots.plain_log_ticks(axes.yaxis)
    assert 3 <= len(axes.yaxis.get_majorticklocs()) <= 20
