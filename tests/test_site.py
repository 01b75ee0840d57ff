"""The site says of every estimator and verb what the code says, and its menu has every page."""

import doctest
import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml

from ils_lightning.cli import OWN_VERBS, TRAINER_VERBS, main
from ils_lightning.estimators import LeaveOneOut, ReinMax, table

pytest.importorskip("mkdocs", reason="the site is an optional part")
pytest.importorskip("latex2mathml", reason="the site is an optional part")

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "hooks"))

import cards  # noqa: E402
import mathematics  # noqa: E402
import reference  # noqa: E402
import results  # noqa: E402
import signs  # noqa: E402
import verbs  # noqa: E402

MADE = {*cards.pages(), *reference.pages(), "verbs.md", "changelog.md", "cookbook/index.md"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", table.classes())
def test_every_estimator_has_a_card_with_formula_and_reference(kind):
    card = cards.pages()[f"estimators/{kind.__name__}.md"]
    assert vars(kind)["equation"].strip()
    formula = re.search(r"^\$\$\n(.*?)\n\$\$$", card, flags=re.DOTALL | re.MULTILINE)
    assert formula is not None
    assert mathematics.mathml(formula[1], "block").count("<mtr>") >= kind.equation.count("\\\\") + 1
    assert "\n## What it needs\n" in card
    assert "\n## Use it\n" in card
    assert kind.kind in ("exact", "wrapper") or re.search(r"## Reference\n\n.*\]\((https://|\.\./theory\.md)", card)
    assert all(f"\n| `{name}` |" in card for name in inspect.signature(kind).parameters)


@pytest.mark.parametrize("kind", table.classes())
def test_every_paper_is_a_link(kind):
    linked = cards.linked(kind.source)
    assert not kind.source or "](" in linked
    assert not re.search(r"(?<![/\d ])\b\d{4}\.\d{5}", re.sub(r"\[.*?\]\(.*?\)", "", linked))


def test_the_page_of_all_names_each_estimator_once():
    index = cards.index()
    assert all(index.count(f"[{kind.__name__}]({kind.__name__}.md)") == 1 for kind in table.classes())


@pytest.mark.slow
def test_a_card_has_the_rows_of_its_estimator():
    card = cards.card(ReinMax)
    (one,) = [one for one in results.by_class()["ReinMax"] if (one.run, one.setting) == ("ReinMax(1.3)", "L8K4")]
    assert f"| ReinMax(1.3), L8K4 | {one.mean:.2f} ± {one.error:.2f} | 5 | {one.place} of {one.runs} |" in card
    assert "published/" not in card
    assert "published/gumbel_rao_L24K4" in cards.pages()["estimators/GumbelRao.md"]


def test_a_card_has_the_rows_of_the_toys_as_their_page_shows_them():
    card = cards.pages()["estimators/ILSCV.md"]
    assert "distance to the optimum at the end ([all runs](../toy.md), `docs/results/polynomial.csv`):" in card
    assert "| ILSCV, p = 1.5 | 0.0613 | 1 | 6 of 12 | exact gradient 0.0562 |" in card
    assert "| ILS, algorithm (0.1) | 0.0040 | 1 | 8 of 9 | Exact 0.0011 |" in cards.pages()["estimators/ILS.md"]


def test_published_numbers_are_those_of_the_file():
    found = {(one.table, one.run, one.setting): one for kind in results.by_class().values() for one in kind}
    one = found["vae_digits", "LeaveOneOut(4)", "L8K4"]
    lines = (ROOT / "docs/results/vae_digits.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("test/loss")
    values = [float(line.split(",")[column]) for line in lines if line.startswith("LeaveOneOut(4),L8K4,")]
    assert one.mean == pytest.approx(sum(values) / len(values))
    assert {kind for kind, rows in results.by_class().items() if one in rows} == {LeaveOneOut.__name__}


@pytest.mark.slow
def test_the_page_of_verbs_has_every_verb_and_its_options():
    page = verbs.page()
    for verb in [*TRAINER_VERBS, *OWN_VERBS]:
        assert f"\n## `{verb}` {{#{verb}}}\n" in page
    assert all(f"| `--{name}` |" in page for name in ("ckpt_path", "launcher", "trainer.max_steps", "average"))


def test_every_public_name_is_found_and_documented():
    assert [*reference.faults()] == []
    assert {"ils_lightning.estimators", "ils_lightning.functional", "ils_lightning.compare"} <= set(reference.modules())
    page = reference.pages()["api/functional.md"]
    assert "members: ['gumbel_softmax', 'sample', 'unimix']" in page


def test_the_menu_has_every_page():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    entries = set(_leaves(yaml.safe_load(menu)["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    for page in MADE | {one for one in written if not one.startswith("hooks/")}:
        assert page in entries or f"{page.rpartition('/')[0]}/*" in entries, page
    assert {entry for entry in entries if not entry.endswith("/*")} <= MADE | written


@pytest.mark.parametrize("module", [cards, mathematics, signs])
def test_examples_of_the_hooks(module):
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in table.classes() if cards.command(kind)])
def test_the_line_of_a_card_trains(kind, tmp_path):
    main([*cards.command(kind), "--trainer.fast_dev_run=true", f"--trainer.default_root_dir={tmp_path}"])


def test_is_distributed_as_is_a_relation():
    assert "<mo>&#x0223C;</mo>" in mathematics.mathml(r"\begin{aligned} u &\sim U \end{aligned}")
    assert "&#x0223C;" not in mathematics.mathml(r"\tilde z")


@pytest.mark.parametrize("tex", [r"\argh", r"a & b", r"\frac{1}{\tau} \unknown"])
def test_a_formula_that_is_not_understood_is_an_error(tex):
    with pytest.raises(ValueError, match="is not understood in the formula"):
        mathematics.mathml(tex)


def _leaves(entry):
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from _leaves(value)
    else:
        for one in entry:
            yield from _leaves(one)
