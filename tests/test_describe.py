"""Descriptions of which no object can be made: one line each, with the nearest right thing."""

import pytest
import torch

from ils_lightning.describe import create
from ils_lightning.diagnose import gradient_report
from ils_lightning.errors import DescriptionError, Refusal
from ils_lightning.estimators import Estimator, ReinMax
from ils_lightning.layers import Quantizer, Router

LOGITS = torch.tensor([[[1.0, 0.0, -1.0]]])
NEAREST = "Estimator: unknown class 'ReinMx', did you mean 'ReinMax'?; known: "


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("ReinMx", NEAREST),
        ({"class_path": "ReinMx"}, NEAREST),
        ("R", "Estimator: unknown class 'R'; known: "),
        ({"class_path": "LatinHypercube", "init_args": {"estimator": "ReinMx"}}, f"estimator{NEAREST[9:]}"),
        (
            {"class_path": "TopKReinMax", "init_args": {"sise": 2}},
            "sise: TopKReinMax has no option 'sise', did you mean 'size'?; its options: size",
        ),
        (
            {"class": "ReinMax"},
            "class: a description has class_path, and init_args for options; given 'class', did you mean 'class_path'?",
        ),
        (
            {"class_path": "ReinMax", "temperature": 1.2},
            "class_path: stands with init_args, for all options, and nothing else",
        ),
        (
            {"class_path": "ReinMax", "init_args": {"temperature": -1}},
            "Estimator: ReinMax: temperature must be greater",
        ),
    ],
    ids=str,
)
def test_a_description_that_will_not_do_is_told_in_one_line(description, line):
    with pytest.raises(DescriptionError) as found:
        create(description, Estimator)
    assert str(found.value).startswith(line)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "None"),
        (3, "3"),
        (["ReinMax"], r"\['ReinMax'\]"),
        (ReinMax, r"the class ReinMax: write ReinMax\(\) or 'R"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [lambda one: Router(4, estimator=one), lambda one: Quantizer(4, 4, estimator=one)])
def test_what_is_no_object_is_not_taken_for_one(make, given, said):
    with pytest.raises(Refusal, match=f"^Estimator: must be an object, the name of its class, or .*; given {said}"):
        make(given)


@pytest.mark.parametrize("one", ["ReinMax", ReinMax(), {"class_path": "ReinMax"}], ids=str)
def test_a_single_estimator_does_for_a_report(one):
    report = gradient_report(lambda z: z[..., 0, 0].square(), LOGITS, one, draws=32)
    assert [row.name for row in report.rows] == ["ReinMax"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"estimators": "ReinMx"}, "unknown class 'ReinMx', did you mean 'ReinMax'"),
        ({"exact": "no"}, "exact must be 'auto', True or False; given 'no'"),
        ({"exact": False, "reference": "LeaveOneOt"}, "unknown class 'LeaveOneOt', did you mean 'LeaveOneOut'"),
    ],
)
def test_wrong_words_for_a_report_are_told(options, line):
    with pytest.raises(Refusal, match=line):
        gradient_report(lambda z: z[..., 0, 0].square(), LOGITS, **options)
