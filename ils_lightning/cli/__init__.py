"""The command line. The first word chooses; each verb is imported only when it is asked for.

`fit`, `validate`, `test` and `predict` are a LightningCLI (see `training`), and so are `diagnose` and `encode`, each
with a Trainer of its own; the other verbs are functions whose arguments are their options.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import get_type_hints

from ils_lightning import __version__
from ils_lightning.cli.errors import PROGRAM, fail, quiet_threads, told_in_one_line
from ils_lightning.cli.ranks import end_with_the_process_that_started_me
from ils_lightning.cli.streams import endure
from ils_lightning.errors import Refusal, did_you_mean, of_memory

TRAINER_VERBS: Mapping[str, str] = {
    "fit": "train a model (without options: the first toy problem, by ILS)",
    "validate": "evaluate a checkpoint on the validation data",
    "test": "evaluate a checkpoint on the test data",
    "predict": "run a checkpoint on the prediction data",
    "encode": "write the codes of all data by a checkpoint's model",
    "diagnose": "measure which estimator serves a model's loss best",
}
OWN_VERBS: Mapping[str, tuple[str, str]] = {
    "compare": ("run a grid of estimators, settings and seeds; table and figure", "ils_lightning.compare:compare"),
    "sample": ("draw images or texts from a checkpoint's model", "ils_lightning.cli.sample:sample"),
    "bench": ("time the estimators", "ils_lightning.bench:bench"),
    "estimators": ("list the estimators, or describe one: estimators NAME", "ils_lightning.cli.estimators:show"),
    "new": ("write the starting files of an estimator or a module of your own", "ils_lightning.new:new"),
}
_STRICT = "ILS_LIGHTNING_STRICT"
_CODE = "a configuration is code, as with Lightning: run one of somebody else's as you would run their program"

FIRST_WORDS: Mapping[str, str] = {"estimators": "name"}
"""Options that a verb takes as its first word too, by verb."""


def main(args: list[str] | None = None) -> None:
    """Runs the verb that `args` (the process's own arguments unless given) start with.

    Exits with status 2 and one line on the standard error where the words typed are at fault, with status 130 when it
    is interrupted.
    """
    if args is None:
        endure()
    if args is None and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # as `python -m` does, so that ils-lightning finds classes of one's own there too
    try:
        with quiet_threads():
            _run(sys.argv[1:] if args is None else list(args))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


def _run(words: list[str]) -> None:
    if "--strict" in words or os.environ.get(_STRICT, "") not in ("", "0"):
        fail(f"there is no strict mode (--strict, {_STRICT}): {_CODE}")
    if not words or words[0] in ("-h", "--help"):
        print(usage())
    elif words[0] == "--version":
        print(f"ils_lightning {__version__}")
    elif words[0] == "diagnose":
        end_with_the_process_that_started_me()
        from ils_lightning.cli.diagnosing import run
        from ils_lightning.diagnose.command import DiagnosingTrainer

        run([words[0], *_repeatable(words[1:], DiagnosingTrainer.diagnose)])
    elif words[0] == "encode":
        end_with_the_process_that_started_me()
        from ils_lightning.cli.encoding import run
        from ils_lightning.encode import EncodingTrainer

        run([words[0], *_repeatable(words[1:], EncodingTrainer.encode)])
    elif words[0] in TRAINER_VERBS:
        end_with_the_process_that_started_me()
        from ils_lightning.cli.training import run

        run(words)
    elif words[0] in own_verbs():
        _run_own(*words)
    else:
        verbs = [*TRAINER_VERBS, *own_verbs()]
        fail(f"unknown verb {words[0]!r}{did_you_mean(words[0], verbs)}; verbs: {', '.join(verbs)}")


def usage() -> str:
    """Returns the text of `--help`."""
    verbs = {**TRAINER_VERBS} | {name: OWN_VERBS[name][0] for name in own_verbs()}
    width = max(map(len, verbs))
    return "\n".join(
        [
            "usage: python -m ils_lightning VERB [options]",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in verbs.items()),
            "",
            "  fit                        train with the defaults",
            "  fit --config FILE_OR_NAME  a configuration file, or a packaged one",
            "  fit --model.estimator ReinMax --model.loss RBFEnergy --data SingleDraws",
            "  fit --print_config         show every setting and its value",
            "  VERB --help                options of a verb",
        ]
    )


def own_verbs() -> list[str]:
    """Names of the verbs, beside LightningCLI's, whose module is installed."""
    return [name for name, (_, target) in OWN_VERBS.items() if _installed(target.split(":")[0])]


def _installed(module: str) -> bool:
    """Looks for the module's file without importing the packages above it."""
    parts = module.split(".")
    package = find_spec(parts[0])
    if package is None or package.submodule_search_locations is None:
        return False
    from pathlib import Path

    path = Path(next(iter(package.submodule_search_locations))).joinpath(*parts[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _repeatable(words: Sequence[str], command: Callable) -> list[str]:
    """Lets options that take lists be given one value at a time: `--seeds 0 --seeds 1` for `--seeds [0,1]`."""
    lists = {f"--{name}" for name, kind in get_type_hints(command).items() if "list[" in str(kind)}
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in lists and (equals or rest):
            value = value if equals else rest.pop(0)
            found.append(f"{name}={value}" if value.startswith("[") else f"{name}+={value}")
        else:
            found.append(word)
    return found


def _run_own(verb: str, *words: str) -> None:
    if verb in FIRST_WORDS and words and not words[0].startswith("-"):
        words = (f"--{FIRST_WORDS[verb]}={words[0]}", *words[1:])
    module, function = OWN_VERBS[verb][1].split(":")
    command = getattr(import_module(module), function)
    from jsonargparse import auto_cli

    from ils_lightning.cli.one_line import OneLine
    from ils_lightning.messages import explained

    parser = type("Parser", (OneLine,), {"roots": get_type_hints(command)})
    called = f"{PROGRAM} {verb}" + (f" [{FIRST_WORDS[verb].upper()}]" if verb in FIRST_WORDS else "")
    options: dict = {"as_positional": True, "prog": called, "parser_class": parser}
    with told_in_one_line({Refusal: explained, RuntimeError: of_memory, TypeError: of_memory}, f"{verb}: "):
        auto_cli(command, args=_repeatable(words, command), **options)
