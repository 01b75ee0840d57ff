"""The generated table of estimators says of every class what the class itself does."""

import inspect

import pytest

from ils_lightning import estimators
from ils_lightning.cli import main
from ils_lightning.cli.estimators import page
from ils_lightning.estimators import Average, Estimator, ReinMax, table
from ils_lightning.type_hints import is_abstract

CLASSES = [c for c in table.classes() if c.kind != "wrapper"]


def subclasses(parent):
    for child in parent.__subclasses__():
        if not is_abstract(child):
            yield child
        yield from subclasses(child)


def test_every_estimator_with_a_file_of_its_own_has_one_row():
    """A public estimator lives in the module named after it."""
    modules = {
        c: c.__module__.removeprefix("ils_lightning.estimators.").replace("_", "") for c in subclasses(Estimator)
    }
    named = {c.__name__ for c, module in modules.items() if module == c.__name__.lower()}
    names = [row.name for row in table.rows()]
    assert {"ReinMax", "LeaveOneOut", "Exact", "Average"} <= named
    assert sorted(names) == sorted(named)
    assert named <= set(estimators.__all__)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_row_repeats_what_the_class_declares(cls):
    row, instance = table.row(cls), cls()
    assert row.kind in ("pathwise", "score function", "finite difference", "marginal", "exact")
    assert row.categories == ("2" if instance.binary else "any")
    assert (row.unbiased == "yes") is instance.unbiased
    assert (row.needs_gradient == "yes") is instance.needs_gradient
    assert row.exact_for == instance.exact_for
    assert (row.paper != "-") is (cls.kind != "exact")


@pytest.mark.parametrize("cls", CLASSES)
def test_the_options_are_those_of_the_constructor(cls):
    listed = [option.split(" = ")[0] for option in table.row(cls).options.split(", ")]
    assert listed == (list(inspect.signature(cls).parameters) or ["-"])


@pytest.mark.parametrize("sizes", [(1, 2), (3, 2)])
@pytest.mark.parametrize("estimator", [*[c() for c in CLASSES], Average(ReinMax(), 3)], ids=lambda e: type(e).__name__)
def test_the_cost_in_words_is_the_number_of_evaluations(estimator, sizes):
    """The text is a formula in S, K, L and the options: `S + 1`, `K * (K - 1) / 2`, `min(S, K^L)`."""
    latents, categories = sizes
    names = {"S": getattr(estimator, "samples", None), "L": latents, "K": categories, "min": min}
    cost = eval(estimator.cost.replace("^", "**"), {"__builtins__": {"min": min}}, vars(estimator) | names)
    assert cost == estimator.evaluations(latents, categories)


def test_markdown_is_one_table_with_a_row_each():
    lines = table.markdown().splitlines()
    assert lines[0].startswith("| name | kind | K | unbiased | exact for |")
    body = [line for line in lines[2:] if line.startswith("|")]
    assert [line.split("`")[1] for line in body] == [c.__name__ for c in table.classes()]
    assert {line.count(" | ") for line in body} == {8}
    assert "| `ReinMax` | pathwise | any | no | quadratic | 1 | yes | temperature = 1 | Liu et al. 2023" in "\n".join(
        body
    )


def test_the_command_prints_both_forms(capsys):
    main(["estimators", "--form", "markdown"])
    assert capsys.readouterr().out == table.markdown()
    main(["estimators"])
    printed = capsys.readouterr().out
    assert all(f" {c.__name__}" in printed for c in table.classes())
    assert "2304.08612" in printed


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_at_any_width_everything_is_said_and_no_word_is_broken(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    main(["estimators"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert len(printed.splitlines()) < 8 * len(table.rows())
    words = set(printed.replace(";", " ").replace(",", " ").split())
    for row in table.rows():
        said = f"{row.name} {row.kind} {row.options} {row.paper}"
        assert set(said.replace(",", " ").replace(";", " ").split()) <= words | {"-"}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("cls", table.classes())
def test_the_page_of_one_estimator(cls, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    main(["estimators", cls.__name__.lower()])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{cls.__name__}\n")
    assert cls.source in printed
    assert all(f"\n  {name}" in printed for name in inspect.signature(cls).parameters)
    assert table.row(cls).evaluations.split(" ")[0] in printed


def test_the_page_has_formula_and_settings(capsys):
    main(["estimators", "ReinMax"])
    printed = capsys.readouterr().out
    assert inspect.getmodule(ReinMax).__doc__.split("\n\n")[1].rstrip() in printed
    assert "--model.estimator estimators/reinmax" in printed


def test_an_estimator_of_ones_own_is_shown_by_its_path(tmp_path, monkeypatch):
    text = 'class Halfway(ReinMax):\n    """Half of it."""\n    equation = ""\n'
    (tmp_path / "ils_joint.py").write_text(f"from ils_lightning.estimators import ReinMax\n\n\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    said = page("ils_joint.Halfway", 80)
    assert "Half of it." in said
    assert said.endswith("to use: --model.estimator ils_joint.Halfway")
    with pytest.raises(ValueError, match=r"is of ils_lightning.variables.*pydoc ils_lightning\.variables\.ILSNatural"):
        page("ILSNatural", 80)
    for wrong in ("ils_joint.Halfwoy", "ils_jaint.Halfway", "torch.nn.Linear"):
        with pytest.raises(ValueError, match=rf"no estimator '{wrong}'.*by its path, as in halfway\.Halfway"):
            page(wrong, 80)


def test_an_unknown_estimator_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["estimators", "ReinMux"])
    assert ended.value.code == 2
    assert "there is no estimator 'ReinMux', did you mean 'ReinMax'?" in capsys.readouterr().err
