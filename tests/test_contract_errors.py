"""Law 9: bad input is a ValueError that states the rule and what was given."""

import inspect
from typing import Any

import pytest
import torch
from examples import Example, obeying
from simulate import problem_for
from test_contract import concrete
from torch import Tensor

from ils_lightning.estimators import ILS, Average, Estimator, Exact, LeaveOneOut, MovingAverage, Reinforce, ReinMax

NUMBERS = ("temperature", "step_size", "samples")


def logits_of(estimator: Estimator) -> Tensor:
    return problem_for(estimator, "mlp").logits.expand(4, -1, -1).clone()


@pytest.mark.parametrize("example", obeying("errors"))
def test_loss_of_the_wrong_shape(example: Example):
    estimator = example.make().double()
    with pytest.raises(ValueError, match=r"the loss f must map z \[samples, \*batch, latents, categories\].*returned"):
        estimator(logits_of(estimator).requires_grad_(), lambda z: z.sum())
    with pytest.raises(ValueError, match="it returned float"):
        estimator(logits_of(estimator).requires_grad_(), lambda z: 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the loss f must be a function of draws z .*given float64 \[4"):
        estimator(logits_of(estimator).requires_grad_(), logits_of(estimator))  # type: ignore[arg-type]


def test_rows_without_an_axis_of_latents_are_told_what_to_do():
    with pytest.raises(ValueError, match=r"one row of 5 latents; for 5 rows of one latent give logits\.unsqueeze"):
        ReinMax()(torch.zeros(5, 3, requires_grad=True), lambda z: z[..., 0])
    with pytest.raises(ValueError, match=r"returned \[1, 4\]$"):
        ReinMax()(torch.zeros(5, 3, requires_grad=True), lambda z: z[:, :4, 0])


@pytest.mark.parametrize(
    ("value", "cause"),
    [(float("nan"), "NaN"), (float("inf"), r"\+inf"), (-float("inf"), "all categories masked")],
)
@pytest.mark.parametrize("example", obeying("errors"))
def test_rows_without_a_finite_maximum(example: Example, value: float, cause: str):
    estimator = example.make().double()
    logits = logits_of(estimator)
    logits[2, 1] = value
    with pytest.raises(ValueError, match=rf"row \[2, 1\] has {cause}"):
        estimator(logits.requires_grad_(), problem_for(estimator, "mlp").loss())
    with pytest.raises(ValueError, match=rf"row \[2, 1\] has {cause}"):
        estimator.value(logits, problem_for(estimator, "mlp").loss())


@pytest.mark.parametrize(
    "logits", [torch.ones(2, 2, 2, dtype=torch.long), torch.ones(2), torch.ones(2, 2, 0), [1.0, 2.0]], ids=str
)
@pytest.mark.parametrize("example", obeying("errors"))
def test_what_is_not_logits(example: Example, logits: Any):
    with pytest.raises(ValueError, match=r"needs floating-point logits .*given (int64|float32|list)"):
        example.make()(logits, lambda z: z.sum(dim=(-2, -1)))


def options() -> list:
    """Every numeric option of every public estimator that can be made from its defaults."""
    found = []
    for c in sorted(concrete(), key=lambda c: c.__name__):
        parameters = inspect.signature(c).parameters
        defaults = all(p.default is not inspect.Parameter.empty for p in parameters.values())
        found += [pytest.param(c, n, id=f"{c.__name__}-{n}") for n in NUMBERS if defaults and n in parameters]
    return found


@pytest.mark.parametrize(("estimator", "option"), options())
def test_options_out_of_range(estimator: type[Estimator], option: str):
    for value in (0, -1):
        with pytest.raises(ValueError, match=rf"{estimator.__name__}: {option} must be .*given {value}"):
            estimator(**{option: value})


def counts() -> list:
    """Every option of every public estimator that says how many of something; a limit may be a power of ten."""
    found = []
    for c in sorted(concrete(), key=lambda c: c.__name__):
        parameters = inspect.signature(c).parameters
        wraps = {"estimator": ReinMax()} if "estimator" in parameters else {}
        names = [n for n, p in parameters.items() if p.annotation is int and n not in ("limit", "chunk")]
        found += [pytest.param(c, wraps, n, id=f"{c.__name__}-{n}") for n in names]
    return found


def test_counts_are_found_by_their_annotations():
    assert {"GumbelRao-resamples", "Grouped-groups", "LeaveOneOut-samples"} <= {case.id for case in counts()}


@pytest.mark.parametrize("value", [True, 2.5])
@pytest.mark.parametrize(("estimator", "wraps", "option"), counts())
def test_counts_are_whole_numbers(estimator: type[Estimator], wraps: dict, option: str, value: float):
    with pytest.raises(ValueError, match=rf"{estimator.__name__}: {option} must be a whole number; given {value}"):
        estimator(**wraps, **{option: value})


@pytest.mark.parametrize("value", ["1", None])
def test_options_that_are_no_numbers(value: Any):
    rule = "ReinMax: temperature must be a number, or one for each row; given"
    with pytest.raises(ValueError, match=f"{rule} {value!r}"):
        ReinMax(temperature=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, 0.0], torch.tensor([-1.0, 1.0])], ids=str)
def test_options_in_lists_and_not_finite(value: float | list[float] | Tensor):
    with pytest.raises(ValueError, match=r"ReinMax: temperature must be greater than 0 and finite; given"):
        ReinMax(temperature=value)


def test_particular_rules():
    with pytest.raises(ValueError, match="samples must be at least 2, to leave one out; given 1"):
        LeaveOneOut(samples=1)
    with pytest.raises(ValueError, match=r"3 \*\* 20 = 3486784401 exceeds limit = 65536"):
        Exact()(torch.zeros(20, 3), lambda z: z.sum(dim=(-2, -1)))
    with pytest.raises(ValueError, match=r"^Exact: limit must be at least 1; given 0$"):
        Exact(limit=0)
    with pytest.raises(ValueError, match="samples must be at least 1; given 0"):
        Average(ReinMax(), samples=0)
    with pytest.raises(ValueError, match="samples must be at least 1; given 0"):
        Reinforce(samples=0)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); given 1"):
        MovingAverage(decay=1)
    with pytest.raises(ValueError, match=r"pullback must be .softmax. or .none..*given 'soft'"):
        ILS(pullback="soft")  # type: ignore[arg-type]


@pytest.mark.parametrize("example", [p for p in obeying("errors") if p.values[0].make().needs_gradient])
def test_loss_that_cannot_be_differentiated(example: Example):
    estimator = example.make().double()
    with pytest.raises(ValueError, match="needs a loss f that is differentiable in z"):
        estimator(logits_of(estimator).requires_grad_(), lambda z: z.detach().sum(dim=(-2, -1)))


@pytest.mark.parametrize("example", [p for p in obeying("errors") if p.values[0].make().binary])
def test_more_than_two_categories(example: Example):
    with pytest.raises(ValueError, match="is defined for 2 categories only; given 3"):
        example.make()(torch.zeros(4, 2, 3), lambda z: z.sum(dim=(-2, -1)))
