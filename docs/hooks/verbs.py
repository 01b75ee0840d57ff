"""The page of verbs: every verb of the command line with its options, asked of the parsers themselves."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from importlib import import_module
from typing import get_type_hints

from jsonargparse import ArgumentParser, auto_cli, capture_parser

from ils_lightning.cli import OWN_VERBS, TRAINER_VERBS, diagnosing, encoding, training
from ils_lightning.cli.one_line import OneLine

_RUNS = {"diagnose": diagnosing.run, "encode": encoding.run}
_INTRODUCTION = """# Verbs and options

Every verb is `python -m ils_lightning VERB`, or `ils-lightning VERB` where the package is installed;
`VERB --help` prints its options. An option with a dot reaches into a part:
`--model.estimator.temperature 1.3`. This page is made from the parsers.

| verb | what it does |
|---|---|
"""
_TRAINER = """## Options of the Trainer

`fit`, `validate`, `test`, `predict`, `encode` and `diagnose` take every option of Lightning's Trainer; the words are
Lightning's.

"""


def page() -> str:
    """Returns the page in Markdown."""
    said = TRAINER_VERBS | {verb: text for verb, (text, _) in OWN_VERBS.items()}
    table = "\n".join(f"| [`{verb}`](#{verb}) | {text} |" for verb, text in said.items())
    parts = [_section(verb, text, parser(verb)) for verb, text in said.items()]
    trainer = [action for action in options(parser("fit")) if action.dest.startswith("trainer.")]
    return "\n\n".join([_INTRODUCTION + table, *parts, _TRAINER + _table(trainer)]) + "\n"


def parser(verb: str) -> ArgumentParser:
    """Returns the parser that reads the words behind a verb."""
    if verb in TRAINER_VERBS:
        run = _RUNS.get(verb, training.run)
        whole = capture_parser(lambda: run([verb, "--help"]))  # no other word goes without a checkpoint
        return whole._subcommands_action._name_parser_map[verb]
    module, name = OWN_VERBS[verb][1].split(":")
    command = getattr(import_module(module), name)
    kind = type("Parser", (OneLine,), {"roots": get_type_hints(command)})
    return capture_parser(lambda: auto_cli(command, args=[], as_positional=True, parser_class=kind))


def options(found: ArgumentParser) -> list[Action]:
    """Returns the options of a parser, without those that only print."""
    return [one for one in found._actions if one.default != SUPPRESS and one.dest != "help"]


def _section(verb: str, text: str, found: ArgumentParser) -> str:
    own = [action for action in options(found) if not action.dest.startswith("trainer")]
    described = " ".join((found.description or "").replace(":", ".").split())
    lead = f"{text[0].upper()}{text[1:]}." if verb in ("fit", "validate", "test", "predict") else described
    also = (
        "\n\nBesides, it takes the [options of the Trainer](#options-of-the-trainer)." if verb in TRAINER_VERBS else ""
    )
    return f"## `{verb}` {{#{verb}}}\n\n{lead}\n\n{_table(own)}{also}"


def _table(actions: Iterable[Action]) -> str:
    rows = [f"| {_name(one)} | {_default(one)} | {_cell(one.help or '')} |" for one in actions]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def _name(action: Action) -> str:
    return f"`{next((word for word in action.option_strings if word.startswith('--')), action.dest)}`"


def _default(action: Action) -> str:
    if action.option_strings:
        return "" if action.default is None else f"`{action.default}`"
    return "required" if action.nargs != "?" else ""


def _cell(text: str) -> str:
    """One line of Markdown: quotes and links of reStructuredText in its own form; the default has its column."""
    text = re.sub(r"`([^`<>]+) <(http[^<>]+)>`_*", r"[\1](\2)", " ".join(text.split()))
    text = re.sub(r"``([^`]*)``", r"`\1`", text)
    text = re.sub(r"\s*\(?Defaults?:? [^.]*\.?\)?$|\s*Default: `[^`]*`\.?", "", text)
    text = re.sub(r"(?<!`)\*\*(?!`)", r"\*\*", text)
    return text.replace("|", "\\|")
