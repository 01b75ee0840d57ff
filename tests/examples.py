"""The estimators held to the contract: one entry each, and every law of the contract tests applies to it.

An entry is a name, a function that makes the estimator, and, where a law cannot hold, its name with the reason:
`Example("exact", Exact, {"masked": "enumerates every state"})`. `LAWS` lists the names. The contract fails when a
public estimator has no entry.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from problems import Base, expectation, states
from torch import Tensor

from ils_lightning.estimators import (
    ILS,
    ILSCV,
    AdaptiveImplicitMLE,
    Arm,
    Arms,
    Arsm,
    Average,
    BitFlip,
    Daps,
    DecoupledStraightThroughGumbelSoftmax,
    DisArm,
    DisArmTree,
    DoubleControlVariate,
    DrGrpo,
    EntmaxMarginal,
    Estimator,
    Exact,
    GappedStraightThrough,
    Grpo,
    GumbelRao,
    GumbelSoftmax,
    Hellinger,
    ILSDiagonal,
    ILSIsotropic,
    ILSJoint,
    ILSLeaveOneOut,
    ILSLowRank,
    ILSNewton,
    ILSResidual,
    ILSTempered,
    ILSTemperedDiagonal,
    ImplicitMLE,
    LatinHypercube,
    LeaveOneOut,
    LocalExpectation,
    MinimumVariance,
    MovingAverage,
    MuProp,
    NetworkBaseline,
    Rebar,
    Redge,
    RedgeCov,
    Reinforce,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    Relax,
    Rodeo,
    SparsemaxMarginal,
    SparseMixer,
    SparseMixerV2,
    SparseMixerV2Star,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    SumAndSample,
    TopKReinMax,
    TopKSubset,
    UnorderedSet,
    VarGrad,
    Vimco,
)

LAWS = {
    "shapes": "1. batches (), (3,), (2, 3); dtype kept; strided logits; K = 1, 2, 5, 300",
    "value": "2. the mean loss is the expectation, for hard estimators",
    "gradient": "3. unbiased and exact_for are true, and no larger claim would be",
    "theta": "4. the parameter inside f gets the gradient of the expectation, for hard estimators",
    "theta path": "4. the parameter inside f gets the gradient of the very loss that is returned",
    "scale": "5. c * loss gives c * gradient",
    "copies": "5. the expected gradient of a mean over n copies does not depend on n",
    "rows": "6. a row does not depend on the others given the noise, unless pooled",
    "evaluations": "7. f is evaluated the documented number of times",
    "own": "8. own parameters train on |estimate|^2 alone",
    "errors": "9. bad input gives a ValueError that names the rule",
    "modes": "10. inference_mode, state_dict, deepcopy, autocast, extreme and masked logits",
    "simplex": "10. draws, also those of value, lie in the simplex",
    "masked": "10. masked categories are never drawn; f does not see them",
    "edges": "10. finite for any logits up to 1e4, masks, numbers of rows, latents and categories, and dtypes",
    "learning": "12. in training mode a step's draws teach after its estimate",
    "few rows": "12. four rows a step keep the promise of exact_for, in training mode",
    "formula": "13. equals a slow, plain form of its paper's equation, draw by draw",
    "cli": "11. trains two steps through the command line",
}


@dataclass(frozen=True, eq=False)
class Example:
    """A configured estimator with its written exemptions {law: reason} and the facts tests need.

    Attributes:
        objective: (logits `[latents, categories]`, f) -> scalar, when the target is not E f(z).
        replicates: rows of the statistical laws; fewer for estimators that evaluate f many times or never vary.
        cli: what follows `--model.estimator NAME` on the command line when the name alone is not enough.
    """

    name: str
    make: Callable[[], Estimator]
    exempt: dict[str, str] = field(default_factory=dict)
    objective: Callable[[Tensor, Base], Tensor] = expectation
    replicates: int = 100_000
    cli: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


SUPPORT = "the supports in the batch decide; test_marginals counts them"
WEIGHED = {"simplex": "draws are weighed by their probability; test_slopes compares them with the published program"}
NEARLY = dict.fromkeys(("value", "theta"), "its draws follow softmax in the limit of many steps")
PAIRS = "draws have two ones, so they are not one-hot draws; test_marginals tests their law and loss"


def subset_expectation(logits: Tensor, f: Base, size: int = 2) -> Tensor:
    """E f(z) under the distribution of subsets of `size`, by enumeration."""
    latents, categories = logits.shape
    subsets = torch.tensor(list(itertools.combinations(range(categories), size)))
    ones = torch.nn.functional.one_hot(subsets, categories).sum(dim=1).to(logits)
    grid = torch.cartesian_prod(*[torch.arange(len(ones))] * latents).reshape(-1, latents)
    z = ones[grid]
    return ((z * logits).sum(dim=(-2, -1)).softmax(dim=0) * f(z)).sum()


def gated_expectation(logits: Tensor, f: Base, live: bool = True) -> Tensor:
    """E f(p z), each draw weighed by its probabilities, by enumeration; the weights are differentiated if `live`."""
    z = states(*logits.shape)
    p = (z * logits.log_softmax(dim=-1)).sum(dim=(-2, -1)).exp()
    gate = logits.softmax(dim=-1)
    return (p * f(z * (gate if live else gate.detach()))).sum()


def bound_of_three(logits: Tensor, f: Base) -> Tensor:
    """E[-log mean exp(-f)] over three independent draws of one row: what Vimco descends."""
    z = states(*logits.shape)
    p = (z * logits.log_softmax(dim=-1)).sum(dim=(-2, -1)).exp()
    weight = (-f(z)).exp()
    means = (weight[:, None, None] + weight[:, None] + weight) / 3
    return -torch.einsum("i,j,k,ijk->", p, p, p, means.log())


FRESH = 50_000
"""Replicates that fit one step: what is declared of a learnt curvature is declared of a fresh one."""

EXAMPLES = [
    Example("ILS", ILS),
    Example("ILS-step-.01", lambda: ILS(step_size=0.01)),
    Example("ILS-natural", lambda: ILS(pullback="none")),
    Example("ILS-clip", lambda: ILS(normalizer="clip")),
    Example("ILS-simplex", lambda: ILS(step_size=0.5, normalizer="simplex")),
    Example("ILS-Hellinger", lambda: ILS(intermediate_loss=Hellinger())),
    Example("ILSCV", ILSCV),
    Example("ILSCV-1.3", lambda: ILSCV(temperature=1.3)),
    Example("ILSNewton", ILSNewton, replicates=FRESH),
    Example("ILSNewton-0", lambda: ILSNewton(base=0.0), replicates=FRESH),
    Example("ILSNewton-1", lambda: ILSNewton(base=1.0)),
    Example("ILSDiagonal", ILSDiagonal, replicates=FRESH),
    Example("ILSIsotropic", ILSIsotropic, replicates=FRESH),
    Example("ILSJoint", ILSJoint, replicates=FRESH),
    Example("ILSJoint-1", lambda: ILSJoint(base=1.0)),
    Example("ILSTempered", ILSTempered),
    Example("ILSTempered-1", lambda: ILSTempered(temperature=1.0)),
    Example("ILSTemperedDiagonal", ILSTemperedDiagonal),
    Example("ILSLowRank", lambda: ILSLowRank(rank=2), replicates=FRESH),
    Example("ILSResidual", ILSResidual),
    Example("ILSLeaveOneOut", ILSLeaveOneOut),
    Example("ILSLeaveOneOut-4", lambda: ILSLeaveOneOut(samples=4)),
    Example("StraightThrough", StraightThrough),
    Example("StraightThrough-1.3", lambda: StraightThrough(temperature=1.3)),
    Example("ReinMax", ReinMax),
    Example("ReinMax-1.3", lambda: ReinMax(temperature=1.3)),
    Example("GumbelSoftmax", GumbelSoftmax),
    Example("StraightThroughGumbelSoftmax", StraightThroughGumbelSoftmax),
    Example("Reinforce", Reinforce),
    Example("Reinforce-average", lambda: Reinforce(baseline=MovingAverage())),
    Example("Reinforce-3", lambda: Reinforce(samples=3)),
    Example("LeaveOneOut", LeaveOneOut),
    Example("Arm", Arm),
    Example("DisArm", DisArm),
    Example("Arms", Arms),
    Example("Arms-2", lambda: Arms(samples=2)),
    Example("BitFlip", BitFlip),
    Example("DoubleControlVariate", DoubleControlVariate),
    Example("DoubleControlVariate-3", lambda: DoubleControlVariate(samples=3, coefficient=-0.7)),
    Example("Rodeo", lambda: Rodeo(hidden=8), replicates=50_000),
    Example("Reinforce-network", lambda: Reinforce(baseline=NetworkBaseline())),
    Example("MuProp", MuProp),
    Example("MuProp-2-.5", lambda: MuProp(samples=2, eta=0.5)),
    Example("Rebar", Rebar),
    Example("Rebar-2-.3", lambda: Rebar(samples=2, temperature=0.3, eta=0.7), replicates=50_000),
    Example("Relax", Relax),
    Example("Relax-loss", lambda: Relax(relaxed_loss=True), replicates=50_000),
    Example("UnorderedSet", UnorderedSet),
    Example("UnorderedSet-plain", lambda: UnorderedSet(samples=2, baseline=False)),
    Example("SumAndSample", SumAndSample),
    Example("SumAndSample-3", lambda: SumAndSample(largest=3)),
    Example("Arsm", Arsm),
    Example("DisArmTree", DisArmTree),
    Example("VarGrad", VarGrad),
    Example(
        "Vimco",
        lambda: Vimco(samples=3),
        {"theta path": "its loss, a logsumexp, is not linear in f"},
        objective=bound_of_three,
    ),
    Example("Average", lambda: Average(ReinMax(), samples=4), cli=("--model.estimator.estimator", "ReinMax")),
    Example("LatinHypercube", lambda: LatinHypercube(ReinMax(), 4), cli=("--model.estimator.estimator", "ReinMax")),
    Example(
        "LatinHypercube-ILSTempered",
        lambda: LatinHypercube(ILSTempered(temperature=1.5), 4),
        cli=("--model.estimator.estimator", "ILSTempered"),
    ),
    Example("DecoupledStraightThroughGumbelSoftmax", DecoupledStraightThroughGumbelSoftmax),
    Example("DecoupledStraightThroughGumbelSoftmax-.5", lambda: DecoupledStraightThroughGumbelSoftmax(0.5, 1.0)),
    Example("GappedStraightThrough", GappedStraightThrough),
    Example("GappedStraightThrough-adaptive", lambda: GappedStraightThrough(gap="adaptive", temperature=0.7)),
    Example("GumbelRao", lambda: GumbelRao(resamples=3)),
    Example("ReinMaxRao", lambda: ReinMaxRao(resamples=3)),
    Example("ReinMaxCV", lambda: ReinMaxCV(resamples=3)),
    Example("MinimumVariance", MinimumVariance),
    Example("MinimumVariance-1", lambda: MinimumVariance(penalty=1.0)),
    Example("ImplicitMLE", ImplicitMLE),
    Example("AdaptiveImplicitMLE", AdaptiveImplicitMLE),
    Example("SparsemaxMarginal", SparsemaxMarginal, {"evaluations": SUPPORT}, replicates=1000),
    Example("EntmaxMarginal", EntmaxMarginal, {"evaluations": SUPPORT}, replicates=1000),
    Example("TopKSubset", TopKSubset),
    Example(
        "TopKSubset-2",
        lambda: TopKSubset(size=2),
        {"shapes": "one category has no subset of two", "value": PAIRS, "theta": PAIRS},
        objective=subset_expectation,
    ),
    Example("TopKReinMax", TopKReinMax),
    Example(
        "TopKReinMax-2",
        lambda: TopKReinMax(size=2),
        {"shapes": "one category has no subset of two", "value": PAIRS, "theta": PAIRS},
        objective=subset_expectation,
    ),
    Example("LocalExpectation", LocalExpectation, replicates=50_000),
    Example("LocalExpectation-2", lambda: LocalExpectation(samples=2), replicates=20_000),
    Example("Grpo", Grpo, replicates=50_000),
    Example("DrGrpo", lambda: DrGrpo(samples=4), replicates=100_000),
    Example("Daps", Daps, replicates=50_000),
    Example("Redge-.5", lambda: Redge(first_time=0.5), NEARLY),
    Example("Redge-2-.5", lambda: Redge(steps=2, first_time=0.5), NEARLY),
    Example("RedgeCov-.5", lambda: RedgeCov(first_time=0.5), NEARLY),
    Example("SparseMixer", SparseMixer, WEIGHED, objective=gated_expectation),
    Example("SparseMixerV2", SparseMixerV2, WEIGHED, objective=functools.partial(gated_expectation, live=False)),
    Example("SparseMixerV2Star", SparseMixerV2Star, WEIGHED, objective=gated_expectation),
    Example("Exact", Exact, {"masked": "enumerates every state, with weight zero"}, replicates=1000),
]


def obeying(law: str) -> list:
    """The examples as parameters of the test of a law; exempted ones are skipped with their reason."""
    return [
        pytest.param(e, id=e.name, marks=[pytest.mark.skip(reason=e.exempt[law])] if law in e.exempt else [])
        for e in EXAMPLES
    ]
