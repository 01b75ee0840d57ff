"""The report as one HTML file that needs nothing else: table, figure, advice, and how to read them."""

from collections.abc import Callable

from ils_lightning import report_page
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.figure import draw
from ils_lightning.diagnose.rows import GradientReport
from ils_lightning.diagnose.tables import COLUMNS, notes

_WORDS = {
    "error": "root mean square distance to the gradient, relative to its length, of the average of the estimates that "
    "the stated number of evaluations of f buy; it ranks the table",
    "scaled": "that error of the best multiple of the average, sqrt(1 - cosine^2 / (1 + 1 / (n SNR^2))) for the n "
    "estimates averaged: what is left where a step size, or Adam, takes scale out",
    "bias": "length of (mean of the estimates - gradient) over the length of the gradient",
    "bias interval, variance interval": "of 95 per cent",
    "variance": "mean square distance of an estimate to the mean of the estimates, over the gradient's squared length",
    "cosine": "of the mean of the estimates with the gradient; 'of one': expected cosine of a single estimate",
    "SNR": "length of the mean over the root of the variance",
    "value bias": "expected loss the estimator returns less E f, where its interval leaves out zero",
    "f evals": "evaluations of f a row for one estimate; 'var x cost' is variance times these",
    "ms, memory": "of one estimate of the whole batch, beside model and data",
}


def page(report: GradientReport, configuration: str = "") -> str:
    """Returns the page; `configuration` is that of the model and data that were measured, in YAML."""
    title = report.title or "Gradient estimators"
    return report_page.page(
        title,
        report_page.lead(advice(report)),
        table(report),
        report_page.figure(draw([report]), title, draw([report], narrow=True)),
        report_page.folded("configuration", configuration),
        report_page.words(_WORDS),
    )


def in_notebook(report: GradientReport) -> str:
    """Returns the table and its notes, in HTML whose cells keep to a line without the page's style."""
    return _table(report, lambda text: text.replace(" ", "\u00a0"))


def table(report: GradientReport) -> str:
    """Returns the table and its notes, in HTML."""
    return _table(report, str)


def _table(report: GradientReport, letters: Callable[[str], str]) -> str:
    rows = [[letters(column.text(row)) for column in COLUMNS] for row in report.applicable]
    headings = [letters(column.heading) for column in COLUMNS]
    return report_page.table(headings, rows, best=True) + report_page.notes(notes(report))
