"""The README and the pages of docs/ keep their word: code runs, files load, commands parse, links lead somewhere."""

import functools
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pages import GENERATED, ROOT, Page, pages

from ils_lightning import packaged
from ils_lightning.bench.command import PARTS
from ils_lightning.cli import OWN_VERBS, TRAINER_VERBS, main
from ils_lightning.compare.grid import spec

sys.path.append(str(ROOT / "experiments"))
import noise_table

PAGES = pages()
COOKBOOK = "docs/cookbook/"  # its scripts are tried by test_cookbook
BUILT = (
    "docs/verbs.md",
    "docs/changelog.md",
    "docs/cookbook/index.md",
)  # when the site is built, as are the folders of GENERATED
LONG = ("docs/which_estimator.md",)  # whose code takes a minute
RUN = ("model", "data", "trainer", "seed_everything")


OF_TORCH = "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
"""What torch.compile meets in torch itself."""


def with_blocks(*languages: str) -> list[Page]:
    return [page for page in PAGES if page.blocks(*languages)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=(pytest.mark.long,) * (page.name in LONG), id=page.name)
        for page in with_blocks("python")
        if not page.name.startswith(COOKBOOK)
    ],
)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    (tmp_path / "page.py").write_text("\n\n".join(page.blocks("python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", OF_TORCH, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def loads_as_comparison(said: dict, file: Path) -> None:
    """A part of a comparison is laid over a packaged one."""
    whole = said if "base" in said else {**packaged.load("compare/vae_digits", "comparison"), **said}
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    comparison = spec.read(str(file))
    for run in comparison.runs:
        for setting in run.parts():
            config = comparison.configuration(run, comparison.seeds[0], setting)
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
            parses(["fit", "--config", str(file)])


def parses(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--print_config"])
    assert ended.value.code == 0, words


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks("yaml"), ids=lambda page: page.name)
def test_files_of_a_page_load(page, tmp_path, capsys):
    for text in page.blocks("yaml"):
        said = yaml.safe_load(text)
        file = tmp_path / "said.yaml"
        if isinstance(said, dict) and {"runs", "base"} & said.keys():
            loads_as_comparison(said, file)
        elif isinstance(said, dict) and set(said) <= set(RUN):
            file.write_text(text, encoding="utf-8")
            parses(["fit", "--config", "vae_digits", "--config", str(file)])


def known_to(page: Page, words: list[str]) -> list[str]:
    """The words without what exists only after the commands before it: a run's folder, a file that the page shows."""
    found, rest = [], [word.replace("$estimator", "ReinMax") for word in words]
    while rest:
        word = rest.pop(0)
        if word == "--ckpt_path":
            rest.pop(0)
        elif word == "--config" and not (ROOT / "configs" / f"{rest[0]}.yaml").exists():
            file = rest.pop(0)
            assert file.startswith("lightning_logs/") or f"`{file}`" in page.text, f"{file} is made nowhere"
        else:
            found.append(word)
    return found


def accepts(verb: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses the words of a verb that is a function, and calls nothing."""
    module, name = OWN_VERBS[verb][1].split(":")
    function = getattr(import_module(module), name)

    @functools.wraps(function)
    def asked(*args: object, **options: object) -> None:
        called.append(inspect.signature(function).bind(*args, **options))

    called: list = []
    monkeypatch.setattr(import_module(module), name, asked)
    main([verb, *words])
    assert len(called) == 1
    if verb == "bench":
        assert set(called[0].arguments.get("parts") or []) <= set(PARTS)
    if verb == "compare" and not called[0].arguments["file"].endswith(".yaml"):
        asked_for = called[0].arguments
        parts = {key: asked_for.get(key) for key in ("runs", "settings", "seeds")}
        spec.read(asked_for["file"]).select(**parts)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.commands()], ids=lambda page: page.name)
def test_commands_of_a_page_are_accepted(page, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    for verb, *rest in page.commands():
        if verb.startswith("-") or "VERB" in verb:
            continue
        assert verb in {**TRAINER_VERBS, **OWN_VERBS}, verb
        if "NAME" in rest or "--help" in rest or "--print_config" in rest:
            continue
        words = known_to(page, rest)
        with monkeypatch.context() as patch:
            if verb in OWN_VERBS:
                accepts(verb, words, patch)
            else:
                parses([verb, *words])


@pytest.mark.parametrize("page", [page for page in PAGES if page.programs()], ids=lambda page: page.name)
def test_programs_of_a_page_exist(page):
    for program in page.programs():
        made = f"`{program}`" in page.text
        assert (ROOT / program).is_file() or made or (program.startswith("ils_lightning.") and find_spec(program))


@pytest.mark.parametrize("page", [page for page in PAGES if page.links()], ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for link in page.links():
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        name = str(target.relative_to(ROOT))
        if name in BUILT or (target.suffix == ".md" and name.split("/")[1] in GENERATED):
            continue
        assert target.exists(), link
        assert not anchor or anchor in Page(target).anchors(), link
        assert target.suffix != ".png" or target.stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_comparisons_that_a_page_names_are_packaged(page: Page):
    known = {path.stem for path in (ROOT / "configs" / "compare").glob("*.yaml")}
    named = set(re.findall(r"\bcompare/([a-z]\w+)", page.text)) - {"mine", "launchers"}
    assert named <= known


def test_estimators_that_pages_ask_the_table_of_noise_for_are_there():
    asked = [found for page in PAGES for found in re.findall(r"--only\s+'(\[.*?\])'", page.text, re.DOTALL)]
    named = [json.loads(" ".join(found.split())) for found in asked]
    assert named
    assert {name for names in named for name in names} <= set(noise_table.ESTIMATORS)
