"""A report as one HTML file that needs nothing else: its parts, and the look they share."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from matplotlib.figure import Figure

from ils_lightning import machine, plots
from ils_lightning.figure_text import plain

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --paper: #ffffff; --panel: #f3f6f9;
        --line: #d9dfe5; --accent: #0072b2; --blue: #0072b2; --shade: #b8c2cc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9ba7b2; --paper: #11161b; --panel: #1a2129; --line: #303a44; --accent: #56b4e9;
          --blue: #2f95d8; --shade: #4a5866; }
}
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 78rem;
       margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead { border-left: 4px solid var(--accent); border-radius: 0 4px 4px 0; padding: .6rem 1rem; margin: 1rem 0;
        background: var(--panel); font-size: 1.05rem; }
.scroll { overflow-x: auto; max-width: 100%; background:
  linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.scroll:has(th:nth-child(6))::before { content: "the table goes on to the right: scroll it \\2192"; display: none;
  position: sticky; left: 0; width: max-content; color: var(--accent); font-size: .82rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper);
                                 padding-left: 0; }
tr.best td { font-weight: 600; }
tr.section td { color: var(--accent); font-weight: 600; padding-top: .8rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg, figure img { display: block; max-width: 100%; height: auto; }
figure svg { fill: var(--ink); }
figure img { background: #ffffff; border-radius: 4px; }
figure.narrow { display: none; }
.scroll:has(th:nth-child(13))::before { display: block; }
@media (max-width: 60rem) { .scroll:has(th:nth-child(6))::before { display: block; } }
@media (max-width: 45rem) {
  figure svg, figure img { min-width: min(40rem, var(--width)); }
  .scroll:has(th:nth-child(4))::before { display: block; }
  figure.wide { display: none; }
  figure.narrow { display: block; }
  figure.narrow svg, figure.narrow img { min-width: 0; }
  th:first-child, td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 9rem; }
}
p.note, p.made, dl { color: var(--soft); font-size: .86rem; margin: .35rem 0; }
dt { font-weight: 600; } dd { margin: 0 0 .35rem 1rem; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { background: var(--panel); border-radius: 4px; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; }
"""
_THEMED = {"#000000": "var(--ink)", "#0072b2": "var(--blue)"}  # too dark for a dark page
_LARGEST_SVG = 1_500_000  # letters; beyond, a picture of dots is smaller and faster to draw


def page(title: str, *parts: str) -> str:
    """Returns a page of a title, when and by what it was written, and parts in HTML."""
    name = html.escape(plain(title))
    body = "\n".join(part for part in parts if part)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>{name}</h1>
{_made()}
{body}
</body></html>
"""


def heading(text: str) -> str:
    """Returns a heading within the page."""
    return f"<h2>{html.escape(text)}</h2>"


def lead(text: str) -> str:
    """Returns the sentence to be read first."""
    return f'<p class="lead">{html.escape(text)}</p>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], best: bool = False) -> str:
    """Returns a table that scrolls inside its box; a row of one cell is a heading inside it.

    Args:
        headings: of the columns; the first stands on the left and stays in sight.
        rows: cells as text; one that is framed by two stars on each side is bold.
        best: whether to set the first row in bold.

    Example:
        >>> print(table(["run", "loss"], [["a < b", "**1.5**"]]))
        <div class="scroll"><table><thead><tr><th>run</th><th>loss</th></tr></thead><tbody>
        <tr><td>a &lt; b</td><td><b>1.5</b></td></tr>
        </tbody></table></div>
    """
    head = "".join(f"<th>{html.escape(one)}</th>" for one in headings)
    lines = "\n".join(_line(row, len(headings), best and not number) for number, row in enumerate(rows))
    body = f"<tbody>\n{lines}\n</tbody>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{body}</table></div>'


def _line(row: Sequence[str], columns: int, best: bool) -> str:
    if len(row) < columns:
        return f'<tr class="section"><td colspan="{columns}">{html.escape(row[0])}</td></tr>'
    start = '<tr class="best">' if best else "<tr>"
    return f"{start}{''.join(f'<td>{_cell(text)}</td>' for text in row)}</tr>"


def _cell(text: str) -> str:
    before, bold, after = text.partition("**")
    inside, _, rest = after.partition("**")
    return html.escape(before) + (f"<b>{html.escape(inside)}</b>{html.escape(rest)}" if bold else "")


def notes(lines: Iterable[str]) -> str:
    """Returns remarks, each a line."""
    return "\n".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)


def words(explained: Mapping[str, str]) -> str:
    """Returns a list of words and what they mean."""
    pairs = (f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in explained.items())
    return f"<dl>{''.join(pairs)}</dl>"


def folded(summary: str, text: str) -> str:
    """Returns text as it is typed, which shows when it is asked for; nothing where there is none."""
    if not text:
        return ""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text.strip())}</pre></details>"


def figure(drawn: Figure, name: str, narrow: Figure | None = None) -> str:
    """Returns a figure as part of the page, and in its place on a narrow page another one, where there is one."""
    if narrow is None:
        return _figure(drawn, name, "")
    return _figure(drawn, name, "wide") + _figure(narrow, name, "narrow")


def _figure(drawn: Figure, name: str, kind: str) -> str:
    """The lines of a figure, or its dots where there are very many lines."""
    text = io.StringIO()
    with plots.laid_out(drawn):
        drawn.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        lines = text.getvalue()
        picture = _themed(lines) if len(lines) <= _LARGEST_SVG else _dots(drawn, name)
    width = f"--width: {96 * drawn.get_figwidth():.0f}px"
    kind = f' class="{kind}"' if kind else ""
    return f'<figure{kind} role="img" aria-label="{html.escape(name)}" style="{width}">{picture}</figure>'


def _themed(lines: str) -> str:
    for colour, variable in _THEMED.items():
        lines = lines.replace(colour, variable)
    return lines[lines.index("<svg") :]


def _dots(drawn: Figure, name: str) -> str:
    data = io.BytesIO()
    drawn.savefig(data, format="png", transparent=True, dpi=150)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{encoded}">'


def _made() -> str:
    found = machine.describe()
    versions = ", ".join(f"{name} {found[name]}" for name in ("ils_lightning", "torch", "lightning", "python"))
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = f"{when}; {versions}; {found['processor']}"
    return f'<p class="made">{html.escape(text)}</p>'
