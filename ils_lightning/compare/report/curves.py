"""The outcomes of one run and setting together, and what they are measured by."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.training.outcome import Outcome
from ils_lightning.errors import Refusal
from ils_lightning.metrics import kl_divergence
from ils_lightning.modules import Tracked


@dataclass
class Curve:
    """All outcomes of one run and setting; failed seeds are left out of the numbers and named.

    Args:
        run: name of the run.
        setting: label of the setting, or empty.
        outcomes: one for each seed, in the order of the file.
        floor: the published form's predicted bias floor, or NaN.
        reference: what other curves are measured by.
    """

    run: str
    setting: str
    outcomes: list[Outcome] = field(repr=False)
    floor: float = float("nan")
    reference: bool = False

    @property
    def label(self) -> str:
        """Returns run and setting."""
        return f"{self.run} {self.setting}".strip()

    @property
    def finished(self) -> list[Outcome]:
        """Returns the outcomes that did not fail."""
        return [outcome for outcome in self.outcomes if not outcome.failed]

    @property
    def failures(self) -> str:
        """Returns which seeds failed, and why the first did."""
        failed = [outcome for outcome in self.outcomes if outcome.failed]
        if not failed:
            return ""
        seeds = "" if not self.finished else f"seeds {', '.join(str(outcome.seed) for outcome in failed)}: "
        return f"{seeds}{failed[0].failed}"

    @property
    def steps(self) -> Tensor:
        """Recorded steps `[points]`."""
        return self.finished[0].steps

    @property
    def values(self) -> Tensor:
        """The tracked quantity `[points, seeds, trials]`."""
        return torch.stack([outcome.values for outcome in self.finished], dim=1)

    @property
    def mean(self) -> Tensor:
        """The tracked quantity, averaged over rows `[points]`."""
        return self.values.flatten(1).mean(dim=1)

    @property
    def times(self) -> Tensor:
        """Seconds of training, averaged over seeds `[points]`."""
        return torch.stack([outcome.times for outcome in self.finished]).mean(dim=0)

    @property
    def evaluations(self) -> Tensor:
        """Evaluations of f `[points]`."""
        return self.finished[0].spent

    @property
    def tracked(self) -> Tracked:
        """Name and label of the tracked quantity."""
        return self.finished[0].tracked


def curves(comparison: Comparison, found: list[Outcome]) -> list[Curve]:
    """Groups outcomes by run and setting, in the order of the file."""
    grouped: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in found:
        grouped.setdefault((outcome.run, outcome.setting), []).append(outcome)
    runs = {run.name: run for run in comparison.runs}
    return [
        Curve(run, setting, mine, _floor(runs[run], mine), runs[run].reference)
        for (run, setting), mine in grouped.items()
    ]


def _floor(run: Run, found: list[Outcome]) -> float:
    if not run.floor:
        return float("nan")
    p = [outcome.p for outcome in found if outcome.p is not None]
    if not p and not all(outcome.failed for outcome in found):
        raise Refusal(f"the bias floor is that of true distributions; the data of {run.name!r} have none")
    return bias_floor(torch.stack(p)) if p else float("nan")


def bias_floor(p: Tensor) -> float:
    """Mean KL(p || p(1 - p) / Z) / categories: where the published form settles on toy example 1, less step noise."""
    q = p * (1 - p)
    return float((kl_divergence(p, q / q.sum(dim=-1, keepdim=True)) / p.shape[-1]).mean())
