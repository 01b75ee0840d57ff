"""The verb `new`: what it writes works at once, and where it cannot, it writes nothing."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ils_lightning import atomic
from ils_lightning.cli import main
from ils_lightning.new import insertion

ROOT = Path(__file__).parent.parent
PARTS = ("ils_lightning", "configs", "experiments", "tests", "pyproject.toml", "README.md")
LONG = "AbcdefghijklmnopqrstuvwxyzAbcd"  # as long as a name may be
PYRIGHT = any((Path.home() / ".cache/pyright-python").glob("*"))  # its first run downloads


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `new` reads, copied."""
    copy = tmp_path / "checkout"
    for name in ("ils_lightning/estimators/__init__.py", "ils_lightning/modules/__init__.py", "tests/examples.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "configs/estimators").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", copy / "README.md")
    return copy


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["estimater", "Mine"], "must be one of estimator, module, did you mean 'estimator'.; given 'estimater'"),
        (["estimator", "my-estimator"], "CamelCase or snake_case.* did you mean 'MyEstimator'.*; given 'my-estimator'"),
        (["estimator", "2fast"], "CamelCase or snake_case.*; given '2fast'"),
        (["estimator", "Class"], "no word of Python's own, as 'class' is; did you mean 'MyClass'"),
        (["estimator", f"{LONG}e"], "at most 30 letters; given 'Abcdef"),
        (["estimator", "ReinMax"], "ils_lightning.estimators has a ReinMax already.*such as MyReinMax; given ReinMax"),
        (["module", "discrete_vae"], "ils_lightning.modules has a DiscreteVAE already"),
        (["estimator", "random"], "a file random.py would hide the installed module 'random'; did you mean 'MyRandom'"),
        (["module", "torch"], "a file torch.py would hide the installed module 'torch'"),
        (["estimator"], "required: name"),
    ],
)
def test_a_name_that_will_not_do_is_refused_in_one_line(words, says, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["new", *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line), line
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("kind", ["estimator", "module"])
def test_nothing_is_overwritten(kind, capsys, tmp_path):
    Path("test_mine.py").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["new", kind, "mine"])
    assert f"nothing is overwritten, and {tmp_path} has test_mine.py already" in capsys.readouterr().err
    assert contents(tmp_path) == {"test_mine.py": b"mine"}


@pytest.mark.parametrize("fails_at", [1, 3, 5])
def test_a_file_that_cannot_be_written_leaves_everything_as_it_was(fails_at, checkout, monkeypatch, capsys):
    before, count, write = contents(checkout), iter(range(1, 9)), atomic.write_text

    def full(text: str, target: Path) -> None:
        if next(count) == fails_at:
            raise OSError(28, "No space left on device", str(target))
        write(text, target)

    monkeypatch.setattr(atomic, "write_text", full)
    with pytest.raises(SystemExit, match="2"):
        main(["new", "estimator", "Mine", "--folder", str(checkout)])
    assert "No space left on device" in capsys.readouterr().err
    assert contents(checkout) == before


def test_a_checkout_is_found_from_below_and_everything_changed_is_named(checkout, monkeypatch, capsys):
    before = contents(checkout)
    monkeypatch.chdir(checkout / "tests")
    main(["new", "estimator", "Mine"])
    main(["new", "module", "OfMine"])
    told, after = capsys.readouterr().out, contents(checkout)
    changed = {name for name in after if after[name] != before.get(name)}
    assert len(changed) == 10
    assert all(f"  {name}  " in told for name in changed)
    assert f"in {checkout}" in told


def test_lines_come_where_their_neighbours_are_in_order():
    text = 'from a.b2 import B2\nfrom a.b10 import B10\n\n__all__ = [\n    "B2",\n    "IL",\n    "Ba",\n]\n'
    text = insertion.import_line(text, "a.b3", "from a.b3 import B3")
    for name in ("B10", "AB", "Zz"):
        text = insertion.export(text, name)
    assert [line for line in text.splitlines() if "import" in line][1] == "from a.b3 import B3"
    assert ast.literal_eval(text.split("__all__ = ")[1]) == ["AB", "B2", "B10", "IL", "Ba", "Zz"]
    with pytest.raises(ValueError, match="must stand one a line"):
        insertion.export('__all__ = ["B", "C"]\n', "A")


def test_it_answers_without_torch():
    code = "import sys; from ils_lightning.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    words = [sys.executable, "-c", code, "new", "module", "mine"]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)


def run(folder: Path, *words: str) -> str:
    """Runs Python in a folder whose ils_lightning, or else this one, is imported; returns what it prints."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    found = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def assert_clean(folder: Path, *files: str) -> None:
    """Asks ruff, by this project's rules where the folder has them, and pyright."""
    rules = [] if (folder / "pyproject.toml").exists() else ["--line-length=120"]
    chosen = [] if (folder / "pyproject.toml").exists() else ["--select=E,F,I,UP,B,N,RET,SIM,PT,RUF"]
    run(folder, "-m", "ruff", "check", "--no-cache", *rules, *chosen, ".")
    run(folder, "-m", "ruff", "format", "--no-cache", "--check", *rules, ".")
    if PYRIGHT:
        run(folder, "-m", "pyright", *files)


@pytest.mark.long
def test_in_an_empty_folder_they_pass_their_tests_and_train(tmp_path):
    main(["new", "estimator", "my_estimator"])
    main(["new", "module", LONG])
    assert_clean(tmp_path, ".")
    run(tmp_path, "-m", "pytest", "-q", "-W", "error", "--doctest-modules", "-p", "no:cacheprovider")
    run(tmp_path, "-m", "ils_lightning", "fit", "--config", "my_estimator.yaml", "--trainer.max_epochs=1")
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.long
def test_in_a_checkout_they_pass_the_projects_tests(tmp_path):
    for name in PARTS:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    main(["new", "estimator", LONG])
    main(["new", "module", "my_module"])
    assert_clean(tmp_path, "ils_lightning/modules/my_module.py")
    tests = (
        "contract",
        "contract_cli",
        "contract_statistics",
        "formulas",
        "few_rows",
        "table",
        "configs",
        "readme",
        "my_module",
    )
    files = [f"tests/test_{name}.py" for name in tests]
    chosen = f"{LONG} or {LONG.lower()} or my_module or every_estimator or generated_one"
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files)
