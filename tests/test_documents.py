"""YAML is read whole or refused in words, and soon, whatever it says."""

from contextlib import suppress
from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from ils_lightning import Refusal, documents

NINES = ", ".join(["*{}"] * 9)
LETTERS = "abcdefghi"
STEPS = list(pairwise(LETTERS))
LAUGHS = "\n".join(["a: &a [1, 1]", *(f"{after}: &{after} [{NINES.replace('{}', one)}]" for one, after in STEPS)])
MERGES = "\n".join(
    ["a: &a {k: 1}", *(f"{after}: &{after} {{<<: [{NINES.replace('{}', one)}]}}" for one, after in STEPS)]
)
VALUES = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text()
PLAIN = some.recursive(VALUES, lambda one: some.lists(one) | some.dictionaries(some.text(), one), max_leaves=20)
MARKS = some.text(alphabet="ab:&*[]{}<,-|>!%@`'\"#? \n\t01.~", max_size=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", r"\*a stands inside what it stands for"),
        ("model: &a {init_args: *a}", r"\*a stands inside what it stands for"),
        (LAUGHS, "at most 100000 values"),
        (MERGES, "at most 100000 values"),
        ("[" * 5000, "at most 50 levels deep"),
        ("{a: " * 5000, "at most 50 levels deep"),
        ("- " * 5000, "at most 50 levels deep"),
        ("a: *b", "undefined alias"),
        ("!!python/object/apply:os.system [touch called]", "could not determine a constructor"),
    ],
)
def test_what_repeats_itself_without_end_is_refused(text: str, said: str) -> None:
    with pytest.raises(Refusal, match=rf"^x\.yaml is not readable as YAML: (.|\n)*{said}"):
        documents.read(text, "x.yaml")


def test_an_alias_that_repeats_a_little_is_read() -> None:
    assert documents.read("a: &a [1, 2]\nb: *a\nc: {<<: {k: *a}}", "x") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"k": [1, 2]},
    }


@pytest.mark.slow
@given(PLAIN)
@settings(derandomize=True, max_examples=50, deadline=None)
def test_what_was_written_is_read(content: object) -> None:
    assert documents.read(yaml.safe_dump(content), "x") == content


@given(MARKS | some.text(max_size=60))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Refusal):  # any other error is a defect
        documents.read(text, "x")
