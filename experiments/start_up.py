"""What a command takes before its work begins: `python experiments/start_up.py`.

Seconds of processor time of fresh processes: of `fit` up to its first training step, of other verbs to their end, and
how much of a `fit` is beyond importing torch and Lightning, which it needs. They take turns; medians are shown.
"""

import statistics
import subprocess
import sys
import tempfile

from jsonargparse import auto_cli

from ils_lightning.tables import markdown

IMPORTS = "import torch, lightning"
_SAY = "import sys, time; sys.stderr.write(f'\\n{time.process_time()}')"
_RUN = """
import contextlib
from ils_lightning.cli import main
def arrive(*_, **__):
    raise SystemExit
if WORDS[0] == "fit":
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
    _TrainingEpochLoop.advance = arrive
with contextlib.suppress(SystemExit):
    main(WORDS)
"""
COMMANDS = ("--help", "estimators", "fit --help", "fit", "fit --config vae_digits")


def seconds(program: str) -> float:
    """Processor time of a new process, from its start to the end of the program."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", f"{program}\n{_SAY}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(done.stderr.splitlines()[-1])


def measure(repeats: int = 5) -> dict[str, float]:
    """Median seconds of the imports and of each command, in turns."""
    programs = {IMPORTS: IMPORTS} | {words: f"WORDS = {words.split()}{_RUN}" for words in COMMANDS}
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            found[name].append(seconds(program))
    return {name: statistics.median(taken) for name, taken in found.items()}


def show(repeats: int = 5) -> None:
    """Prints the table.

    Args:
        repeats: starts of each command whose median is taken.
    """
    found = measure(repeats)
    beyond = {name: f"{taken - found[IMPORTS]:.2f}" for name, taken in found.items() if name.startswith("fit")}
    lines = [(name, f"{taken:.2f}", beyond.get(name, "")) for name, taken in found.items()]
    print(markdown(("command", "seconds", f"beyond `{IMPORTS}`"), lines), end="")


if __name__ == "__main__":
    auto_cli(show)
