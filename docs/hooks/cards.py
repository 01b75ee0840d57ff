"""One page for each estimator, made from its class, and the table of all of them."""

import inspect
import re
from collections.abc import Iterator

import results
import signs
import yaml

from ils_lightning.cli.estimators import arguments, settings
from ils_lightning.estimators import Estimator, table
from ils_lightning.formula import formula, head
from ils_lightning.packaged import folder

KINDS = {
    "pathwise": "Pathwise: by the slope of the loss at a draw",
    "score function": "Score functions: by the values of the loss",
    "finite difference": "Finite differences",
    "exact": "Exact",
    "marginal": "Marginals: the expectation over a sparse distribution",
    "wrapper": "Wrappers: an estimator around another",
}
LETTERS = r"""??? note "Letters"

    $\theta$: the logits of one latent variable; $\pi = \operatorname{softmax}(\theta)$; $K$: its categories;
    $z$: the draw, one-hot; $f$: the loss; $g = \partial f / \partial z$ at the draw; $f_i = f(z_i)$ for the draws
    $z_1, \dots, z_S$; $\hat\nabla$: the estimate of $\partial \, \mathbb{E} f / \partial \theta$;
    $J_q v = q \, (v - q \cdot v)$, softmax's Jacobian times a vector; $G$: standard Gumbel noise; $\tau$: a
    temperature; $\overline{f}$: the mean over draws, $\overline{f}_{-i}$: that of the other draws;
    $\langle \cdot \rangle$: a moving sum or mean over rows and steps. With two categories: $b$ is the draw,
    $t = \theta_0 - \theta_1$, $p = \sigma(t)$, and $\hat\nabla_t$ the estimate for $t$."""
_IDENTIFIERS = (
    (r"\b(\d{4}\.\d{4,5})\b", "arXiv", "https://arxiv.org/abs/"),
    (r"\b(10\.\d{4,}/[\w.\-/]+)", "doi", "https://doi.org/"),
    (r"\bopenreview (\w+)", "OpenReview", "https://openreview.net/forum?id="),
    (r"\bgithub\.com/([\w.\-]+/[\w.\-]+)", "GitHub", "https://github.com/"),
)


_CLASSES = {
    "none": "no class of losses",
    "linear": "losses linear in z",
    "quadratic": "losses quadratic in z",
    "all": "every loss",
}


def pages() -> dict[str, str]:
    """Returns the pages in Markdown, by path."""
    found = {f"estimators/{kind.__name__}.md": card(kind) for kind in table.classes()}
    return {"estimators/index.md": index(), **found}


def index() -> str:
    """Returns the page with the tables of all estimators, one for each kind."""
    parts = ["# Estimators", "Every estimator has a page: its formula, what it needs, what it costs, how it did."]
    for kind, title in KINDS.items():
        rows = [row for row in table.rows() if row.kind == kind]
        lines = [f"| [{row.name}]({row.name}.md) | {' | '.join(_cells(row))} |" for row in rows]
        heading = "| name | K | exact for | evaluations of f | needs slopes | paper |\n" + "|---" * 6 + "|"
        parts.append("\n".join([f"## {title}\n", heading, *lines]))
    return "\n\n".join([*parts, f"Exact for all losses is unbiased. {_escaped(table.LEGEND)}"]) + "\n"


def card(kind: type[Estimator]) -> str:
    """Returns the page of one estimator."""
    parts = [f"# {kind.__name__}", _prose(head(inspect.getdoc(kind) or "")), _formula(kind), LETTERS, _facts(kind)]
    parts += [_options(kind), _settings(kind), _use(kind), _results(kind), _reference(kind)]
    return "\n\n".join(part for part in parts if part) + "\n"


def linked(source: str) -> str:
    """Returns the source of an estimator with its identifier as a link.

    Example:
        >>> linked("Liu et al. 2023, 2304.08612")
        'Liu et al. 2023, [arXiv 2304.08612](https://arxiv.org/abs/2304.08612)'
    """
    source = source.replace("this project", "[this project](../theory.md)")
    for pattern, name, address in _IDENTIFIERS:
        source = re.sub(pattern, rf"[{name} \1]({address}\1)", source)
    return source


def _formula(kind: type[Estimator]) -> str:
    """The equation, and what the module says of it beside the equation in plain letters."""
    equation = inspect.cleandoc(kind.equation).replace("\n    ", "\n")
    text = [part for part in formula(kind).split("\n\n") if part]
    first = next((place for place, part in enumerate(text) if part.startswith("    ")), len(text))
    said = [_prose(part) for part in text[1:first] + text[first + 1 :]]
    return "\n\n".join(["## Formula", f"$$\n\\begin{{aligned}}\n{equation}\n\\end{{aligned}}\n$$", *said])


def _facts(kind: type[Estimator]) -> str:
    row = table.row(kind)
    rows = [("kind", row.kind), ("categories", "2 only" if row.categories == "2" else "any number")]
    if kind.kind == "wrapper":
        rows += [("evaluations of f", _escaped(row.evaluations)), ("all else", "as the estimator inside")]
    else:
        one = kind()
        slopes = {"all": "of all categories", "drawn": "of the drawn category", "none": "none"}
        rows += [
            ("unbiased", f"yes, for every {'loss' if one.hard else 'loss of its own draws'}" if one.unbiased else "no"),
            ("exact in expectation for", _CLASSES[one.exact_for]),
            ("the loss must be differentiable in z", row.needs_gradient),
            ("slopes that it uses", slopes[one.needs_slopes]),
            ("the loss sees", "exact one-hot draws" if one.hard else "relaxed draws, or draws of another distribution"),
            ("evaluations of f", _escaped(row.evaluations)),
            ("rows share", _shared(one)),
            ("torch.compile takes it", f"in pieces: {one.graph_breaks}" if one.graph_breaks else "in one graph"),
        ]
        rows += [("the loss is", "a bound made of log-weights")] if one.needs_log_weight else []
    lines = "\n".join(f"| {name} | {fact} |" for name, fact in rows)
    return (
        f"## What it needs\n\n| | at the default options |\n|---|---|\n{lines}\n\nS: draws; K: categories; L: latents."
    )


def _shared(one: Estimator) -> str:
    if one.pooled_by_state:
        return "what was learnt of earlier rows"
    return "statistics of the batch" if one.pooled else "nothing"


def _options(kind: type[Estimator]) -> str:
    rows = [
        f"| `{name}` | {f'`{default}`' if default else 'required'} | {_escaped(said)} |"
        for name, default, said in arguments(kind)
    ]
    return "\n".join(["## Options\n", "| option | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _settings(kind: type[Estimator]) -> str:
    parts = []
    if path := settings(kind):
        text = path.read_text(encoding="utf-8").strip()
        parts.append(f"Recommended, `estimators/{path.stem}`:\n\n```yaml\n{text}\n```")
    rows = [f"| `{name}` | {options} | {optimizer} |" for name, options, optimizer in published(kind)]
    if rows:
        lines = ["| laid on a configuration by `--config` | options | optimiser |", "|---|---|---|", *rows]
        parts.append("\n".join(["Published for discrete VAEs on MNIST:\n", *lines]))
    return "\n\n".join(["## Settings", *parts]) if parts else ""


def published(kind: type[Estimator]) -> Iterator[tuple[str, str, str]]:
    """Yields the packaged files of published settings of an estimator: name, its options, and the optimiser."""
    for path in sorted((folder() / "published").glob("*.yaml")):
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["init_args"]
        if model["estimator"]["class_path"].rpartition(".")[-1] == kind.__name__:
            optimizer = model.get("optimizer", {})
            name = optimizer.get("class_path", "").rpartition(".")[-1]
            options = f"{name} {_pairs(optimizer.get('init_args', {}))}".strip()
            yield f"published/{path.stem}", _pairs(model["estimator"].get("init_args", {})) or "defaults", options


def _pairs(options: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items())


def _use(kind: type[Estimator]) -> str:
    parts = ["## Use it"]
    if words := command(kind):
        typed = " ".join(words).replace(" --model.estimator", " \\\n    --model.estimator")
        parts.append(f"```bash\npython -m ils_lightning {typed}\n```")
    if found := re.search(r"^Examples?:\n((?: {4}.*\n?|\n)*)", inspect.getdoc(kind) or "", re.MULTILINE):
        lines = inspect.cleandoc(found[1]).splitlines()
        code = [f"from ils_lightning.estimators import {kind.__name__}", *_typed(lines)]
        parts.append("```python\n" + "\n".join(code) + "\n```")
    parts.append(f"All of its methods: [`{kind.__name__}`][ils_lightning.estimators.{kind.__name__}].")
    return "\n\n".join(parts)


def command(kind: type[Estimator]) -> list[str]:
    """Returns the words that train a small autoencoder by an estimator: a wrapper needs to be told what it wraps."""
    row = table.row(kind)
    if row.kind == "wrapper":
        return []
    path = settings(kind)
    words = ["fit", "--config", "vae_digits", "--model.estimator", f"estimators/{path.stem}" if path else row.name]
    if row.categories == "2":
        words += ["--model.categories", "2"]
    if "K^L" in row.evaluations:  # as many states as can be added up
        words += ["--model.latents", "4"]
    return words


def _typed(lines: list[str]) -> Iterator[str]:
    """What is typed in an example, without what is printed; a result is shown as a comment."""
    for line in lines:
        if line.startswith((">>> ", "... ")):
            yield line[4:]
        elif line.startswith("..."):
            yield ""
        elif line.strip():
            yield f"# {line}"


def _results(kind: type[Estimator]) -> str:
    found = results.by_class().get(kind.__name__, [])
    if not found:
        return "## Results\n\nIt is in none of the [result tables](../results.md)."
    parts = ["## Results", "Less is better; ± is the standard error over seeds."]
    for name in dict.fromkeys(one.table for one in found):
        rows = [one for one in found if one.table == name]
        lines = [f"| {_where(one)} | {_measured(one)} | {one.place} of {one.runs} | {_best(one)} |" for one in rows]
        heading = "| run | mean | seeds | place | best there |\n|---|---:|---:|---:|---|"
        title = f"{rows[0].title} ([all runs]({results.page(name)}), `docs/results/{name}.csv`):"
        parts.append("\n".join([f"{title}\n", heading, *lines]))
    return "\n\n".join(parts)


def _where(one: results.Result) -> str:
    return f"{one.run}, {one.setting}" if one.setting else one.run


def _measured(one: results.Result) -> str:
    spread = f" ± {_number(one.error, one.mean)}" if one.error == one.error else ""
    return f"{_number(one.mean, one.mean)}{spread} | {len(one.values)}"


def _best(one: results.Result) -> str:
    name, mean = one.best
    return f"{name} {_number(mean, mean)}"


def _number(value: float, beside: float) -> str:
    decimals = 2 if abs(beside) >= 1 else 3 if abs(beside) >= 0.1 else 4
    return f"{value:.{decimals}f}"


def _reference(kind: type[Estimator]) -> str:
    if not kind.source:
        return ""
    return f"## Reference\n\n{linked(kind.source)}."


def _cells(row: table.Row) -> list[str]:
    facts = (row.categories, row.exact_for, row.evaluations, row.needs_gradient)
    return [*(_escaped(one) for one in facts), _briefly_linked(row.paper)]


def _briefly_linked(source: str) -> str:
    """The source in a table: authors and year are the link."""
    if found := re.fullmatch(r"(.*?),? \[[^]]*\](\(\S*\))", linked(source)):
        return f"[{found[1]}]{found[2]}"
    return linked(source)


def _prose(text: str) -> str:
    """Markdown of a docstring, in which signs mean themselves but between backticks and in indented lines."""
    parts = re.split(r"((?:^ {4}.*\n?)+)", text, flags=re.MULTILINE)
    return "".join(f"\n{part}\n" if odd % 2 else _escaped(part) for odd, part in enumerate(parts))


def _escaped(text: str) -> str:
    parts = text.split("`")
    meant = str.maketrans({sign: f"\\{sign}" for sign in "*_|<$["})
    return signs.printed("`".join(part if odd % 2 else part.translate(meant) for odd, part in enumerate(parts)))
