"""Verbs that train nothing import nothing that trains; `python experiments/start_up.py` prints what each takes."""

import json
import subprocess
import sys

import pytest
import start_up

HEAVY = {"torch", "lightning", "torchmetrics", "tensorboard", "matplotlib"}
PROGRAM = """
import contextlib, json, sys
from ils_lightning.cli import main
with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
    main({words})
print(json.dumps(sorted(sys.modules)))
"""


def imported(*words: str) -> set[str]:
    """Which of the heavy packages a command imports."""
    program = PROGRAM.format(words=list(words))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stderr) > 10  # what the command printed
    return HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize("words", ["--help", "--version"])
def test_help_imports_not_even_torch(words: str):
    assert imported(words) == set()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["estimators"], ["estimators", "ILSNewton"], ["estimators", "--form", "markdown"]])
def test_estimators_import_torch_alone(words: list[str]):
    assert imported(*words) == {"torch"}


@pytest.mark.slow
def test_verbs_that_train_import_lightning():
    assert imported("fit", "--print_config") >= {"torch", "lightning"}


@pytest.mark.long
def test_the_table_of_seconds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start_up, "COMMANDS", ("--help", "fit"))
    start_up.show(repeats=1)
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    found = {name.strip(): cells for name, *cells in lines[2:]}
    assert list(found) == [start_up.IMPORTS, "--help", "fit"]
    assert all(float(cells[0]) > 0 for cells in found.values())
    assert float(found["fit"][1]) == pytest.approx(
        float(found["fit"][0]) - float(found[start_up.IMPORTS][0]), abs=0.011
    )
