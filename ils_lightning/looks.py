"""One look for each estimator, the same in every panel and every figure: a colour, and a marker where colours are few.

Members of the ILS family have stars and thick lines, and exact enumeration is black. There are fewer colours than
estimators: where two in one figure share one, the first of the table below keeps it, the other takes the next that is
free, and where none is free another marker.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#8C510A")
"""Okabe and Ito's colours, readable by the colour-blind, with a purple and a brown for their yellow and black."""
_OWN = " (the model's)"
_OURS, _OTHERS = "*PX", "osD^v<>hpd"

# A line is once around the palette; those that are shown together most are on the first.
_LINES = (
    "ILSNewton ILSDiagonal ILSCV ILSLeaveOneOut ReinMax GumbelSoftmax LeaveOneOut StraightThrough",
    "ILSJoint ILSTempered ILSResidual ILSIsotropic StraightThroughGumbelSoftmax DisArmTree Rebar Reinforce",
    "ILS ILSTemperedDiagonal Average Relax DisArm UnorderedSet GumbelRao MinimumVariance",
    "Arsm SumAndSample BitFlip MuProp ReinMaxCV Rodeo ReinMaxRao GappedStraightThrough",
    "Arm Arms VarGrad Vimco DoubleControlVariate AdaptiveImplicitMLE ImplicitMLE DecoupledStraightThroughGumbelSoftmax",
    "SparsemaxMarginal EntmaxMarginal TopKSubset TopKReinMax LocalExpectation Grpo DrGrpo Daps",
    "Redge RedgeCov SparseMixer SparseMixerV2 SparseMixerV2Star Grouped LatinHypercube ILSLowRank",
)
_HOMES = [name for line in _LINES for name in line.split()]


class Look(NamedTuple):
    """How to draw one estimator."""

    colour: str
    marker: str
    width: float


def ours(name: str) -> bool:
    """Whether a name is that of a member of the ILS family, whatever follows it.

    Example:
        >>> ours("ILSNewton (the model's)"), ours("ReinMax")
        (True, False)
    """
    return name.startswith("ILS")


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Returns the look of every name in a figure.

    Example:
        >>> looks(["ReinMax", "LeaveOneOut"])["ReinMax"] == looks(["ILSNewton", "ReinMax"])["ReinMax"]
        True
    """
    given = {name: name.removesuffix(_OWN) for name in names}
    found: dict[str, Look] = {}
    taken: set[tuple[int, int]] = set()
    for name in sorted(set(given.values()), key=_order):
        if name == "Exact":
            found[name] = Look("#000000", "o", 1.3)
            continue
        home, place = _home(name), 0
        while ((home + place) % len(PALETTE), place // len(PALETTE)) in taken:
            place += 1
        taken.add(((home + place) % len(PALETTE), place // len(PALETTE)))
        markers = _OURS if ours(name) else _OTHERS
        marker = markers[place // len(PALETTE) % len(markers)]
        found[name] = Look(PALETTE[(home + place) % len(PALETTE)], marker, 2.4 if ours(name) else 1.3)
    return {name: found[plain] for name, plain in given.items()}


def _order(name: str) -> tuple[int, str]:
    """The table's order, those with options or other words last."""
    return (_HOMES.index(name) if name in _HOMES else len(_HOMES), name)


def _home(name: str) -> int:
    """The place in the palette of a name that has it to itself: that of the class it begins with."""
    (head,) = re.findall(r"^\w*", name)
    return (_HOMES.index(head) if head in _HOMES else crc32(name.encode())) % len(PALETTE)
