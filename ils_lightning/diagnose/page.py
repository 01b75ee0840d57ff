"""The report as one HTML file that needs nothing else: table, figure, advice, and how to read them."""

import html
import io
from collections.abc import Callable

from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.report import GradientReport, Row
from ils_lightning.diagnose.tables import COLUMNS, notes

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 76rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .3rem; }
.advice { border-left: 4px solid #0072B2; padding: .5rem 1rem; background: #f2f7fb; font-size: 1.05rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; }
tbody tr:first-child { font-weight: 600; }
svg { max-width: 100%; height: auto; }
p.note, dl { color: #555; font-size: .85rem; }
dt { font-weight: 600; } dd { margin: 0 0 .3rem 1rem; }
"""
_WORDS = {
    "error": "root mean square distance to the gradient, relative to its length, of the average of the estimates that "
    "the stated number of evaluations of f buy; it ranks the table",
    "bias": "length of (mean of the estimates - gradient) over the length of the gradient",
    "variance": "mean square distance of an estimate to the mean of the estimates, over the gradient's squared length",
    "cosine": "of the mean of the estimates with the gradient; 'of one': expected cosine of a single estimate",
    "SNR": "length of the mean over the root of the variance",
    "value bias": "expected loss the estimator returns less E f, where its interval leaves out zero",
    "f evals": "evaluations of f a row for one estimate; 'var x cost' is variance times these",
    "ms, memory": "of one estimate of the whole batch, beside model and data",
}


def page(report: GradientReport, figure: Figure) -> str:
    """Returns the page."""
    title = html.escape(report.title or "Gradient estimators")
    head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in COLUMNS)
    body = "".join(_line(row, [column.text for column in COLUMNS]) for row in report.applicable)
    words = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in _WORDS.items())
    remarks = "".join(f'<p class="note">{html.escape(line)}</p>' for line in notes(report))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>{title}</h1>
<p class="advice">{html.escape(advice(report))}</p>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
{remarks}
{_svg(figure)}
<dl>{words}</dl>
</body></html>
"""


def _line(row: Row, texts: list[Callable[[Row], str]]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(text(row))}</td>" for text in texts) + "</tr>\n"


def _svg(figure: Figure) -> str:
    """The figure as an element of the page, without the prologue of an SVG file."""
    text = io.StringIO()
    with plots.style():
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
