"""A part of `python tests/fuzzing/fuzz.py`, and proof that it reports what is not refused as it should be."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import families, judged
from hostile import Case, attempt, complaints

EACH = 5  # cases of a family; the whole has hundreds
FINE = [
    "fit",
    "--trainer.max_steps=2",
    "--model.chunk=1",
    "--trainer.val_check_interval=1",
    "--trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Case]]:
    return families(tmp_path_factory.mktemp("trained"))


@pytest.mark.long
def test_bad_input_is_refused_in_one_line_that_leaves_nothing(cases: dict[str, list[Case]], tmp_path: Path) -> None:
    chosen = [(name, case) for name, family in cases.items() for case in family[:: max(len(family) // EACH, 1)]]
    wrong = {f"{name}: {case.name}": found for name, case in chosen if (found := judged(case, tmp_path))}
    assert wrong == {}
    assert len(chosen) >= EACH * len(cases)


@pytest.mark.slow
def test_there_are_more_than_500_cases_each_with_a_name_of_its_own(cases: dict[str, list[Case]]) -> None:
    names = [(name, case.name) for name, family in cases.items() for case in family]
    assert len(names) > 500
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_input_that_is_fine_is_reported(tmp_path: Path) -> None:
    found = judged(Case("fine", FINE), tmp_path)
    assert {"exit status 0", "no message"} <= set(found)
    assert any("leaves lightning_logs" in one for one in found)


def _raise(words: list[str]) -> None:
    raise RuntimeError(str(words))


def _say(text: str, status: int = 2) -> Callable[[list[str]], None]:
    def run(words: list[str]) -> None:
        sys.stderr.write(text)
        raise SystemExit(status)

    return run


def _write(words: list[str]) -> None:
    Path("left").touch()
    _say("error: x\n")(words)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (_raise, {"exit status 1", "traceback", "no message", "more than one line"}),
        (_say("error: x\n", 1), {"exit status 1"}),
        (_say(""), {"no message"}),
        (_say("error: a\nerror: b\n"), {"more than one line"}),
        (_say(f"error: {'long ' * 300}\n"), {"long"}),
        (_say("error: y\n"), {"does not name 'x'"}),
        (_say("error: x\x1b[31m\n"), {"unreadable"}),
        (_write, {"leaves left"}),
    ],
)
def test_whatever_is_wrong_with_a_refusal_is_reported(
    tmp_path: Path, run: Callable[[list[str]], None], expected: set[str]
) -> None:
    found = judged(Case("", [], ("x",) if run is not _raise else ()), tmp_path, run)
    assert set(found[:-1]) - {"does not name 'x'"} == expected - {"does not name 'x'"}
    assert "does not name 'x'" not in expected or "does not name 'x'" in found


def test_a_hang_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = attempt([], tmp_path / "run", lambda words: time.sleep(60), seconds=0.2)
    assert "hangs" in complaints(Case("", []), found)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["fti"], "did you mean 'fit'"),
        (["fit", "--model.estimator=ISL"], "did you mean 'ILS'"),
        (["fit", "--strict"], "there is no strict mode"),
        (["test", "--ckpt_path=empty.ckpt"], "no checkpoint"),
        (["compare", "nothing"], "there is no file 'nothing'"),
        (["bench", "--parts=sampler"], "did you mean 'samplers'"),
    ],
)
def test_a_process_of_its_own_says_the_same(words: list[str], named: str, tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    command = [sys.executable, "-m", "ils_lightning", *words]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (found.returncode, found.stdout) == (2, "")
    assert len(found.stderr.splitlines()) == 1
    assert named in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty.ckpt"]
