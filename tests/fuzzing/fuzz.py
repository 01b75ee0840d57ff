"""Bad input to the command line and its files: `python tests/fuzzing/fuzz.py` tries all of it, or the families named.

Every case must end with exit status 2 and one short line that names what is wrong, leave nothing behind, and end soon.
"""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import fuzz_damage
import fuzz_files
import fuzz_options
import fuzz_words
from hostile import Case, attempt, complaints
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ils_lightning.cli import main

Run = Callable[[list[str]], Any]


def families(folder: Path) -> dict[str, list[Case]]:
    """All cases by family, the same ones each time.

    Args:
        folder: where checkpoints are trained, to be damaged.
    """
    chance = Random(0)
    return {
        "verbs": list(fuzz_words.verbs(chance)),
        "options": list(fuzz_words.options(chance)),
        "class names": list(fuzz_words.names(chance)),
        "file names": list(fuzz_words.files(chance)),
        "verbs' own values": list(fuzz_words.values()),
        "options of estimators": list(fuzz_options.of_estimators()),
        "options of other parts": list(fuzz_options.of_parts()),
        "configurations": list(fuzz_files.configurations()),
        "checkpoints": list(fuzz_damage.checkpoints(fuzz_damage.trained(folder), chance)),
        "data": list(fuzz_damage.data()),
    }


def judged(case: Case, folder: Path, run: Run = main) -> list[str]:
    """Tries a case in a new folder below `folder`, and returns what is wrong with how it was refused."""
    mine = Path(mkdtemp(dir=folder))
    case.prepare(mine)
    found = attempt(case.words, mine, run)
    shutil.rmtree(mine)
    wrong = complaints(case, found)
    return [*wrong, f"it said: {(found.errors or ['nothing'])[-1][:300]}"] if wrong else []


def show(chosen: list[str]) -> int:
    """Tries the cases of the families chosen, prints a table, and returns how many were not refused as they should."""
    folder, console = Path(mkdtemp()), Console()
    table = Table("family", "cases", "refused", "seconds each")
    failures: list[str] = []
    for name, cases in families(folder).items():
        if chosen and name not in chosen:
            continue
        began = time.monotonic()
        bad = [(case, wrong) for case in track(cases, name, console=console) if (wrong := judged(case, folder))]
        failures += [f"{name}: {case.name}: {'; '.join(wrong)}" for case, wrong in bad]
        seconds = (time.monotonic() - began) / len(cases)
        table.add_row(name, str(len(cases)), str(len(cases) - len(bad)), f"{seconds:.2f}")
    shutil.rmtree(folder)
    console.print(table)
    for failure in failures:
        console.print(failure, highlight=False, markup=False, soft_wrap=True)
    return len(failures)


if __name__ == "__main__":
    sys.exit(min(show(sys.argv[1:]), 1))
