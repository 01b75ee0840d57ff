"""The search of one run and setting: an Optuna study in a file, which any number of processes may join."""

from pathlib import Path
from typing import NamedTuple

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from ils_lightning.compare.grid.search import Range

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Proposal(NamedTuple):
    """Values to try, and the claim to trying them."""

    number: int
    values: dict[str, float]
    claim: FileLock


class Trial(NamedTuple):
    """A trial that was made: what was tried, and the score, which is NaN where it failed."""

    values: dict[str, float]
    score: float


class Study:
    """Proposes values and keeps their scores.

    A trial is claimed by a lock on a file, which the operating system drops when the process dies; then another takes
    the trial over, with the same values. A proposal depends on the seed, the number of trials before it and their
    scores, so an interrupted search goes on as if it had not been.

    Args:
        storage: of all studies of the comparison; see `journal.storage`.
        folder: where trials are claimed.
        name: of this one; another configuration needs another name.
        ranges: of the keys.
        start: values to try first; keys that are missing are proposed.
        seed: of the proposals.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        folder: Path,
        name: str,
        ranges: dict[str, Range],
        start: dict[str, float],
        seed: int,
    ) -> None:
        self.folder, self.name, self.start, self.seed = folder, name, start, seed
        self.distributions = {key: FloatDistribution(one.low, one.high, log=one.log) for key, one in ranges.items()}
        self.lock = FileLock(folder / "lock")
        with self.lock:
            self.study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)

    def propose(self, most: int) -> Proposal | None:
        """Returns a trial that nobody works on: one whose process died, or a new one if there are less than `most`."""
        with self.lock:
            trials = self._proposed()
            for trial in trials:
                if trial.state == TrialState.RUNNING and (claim := self._claim(trial.number)):
                    return Proposal(trial.number, dict(trial.params), claim)
            if len(trials) >= most:
                return None
            if not trials and self.start:
                self.study.enqueue_trial(dict(self.start), skip_if_exists=True)
            self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(trials))
            trial = self.study.ask(dict(self.distributions))
            claim = self._claim(trial.number)
            assert claim is not None, "a trial of this very moment has no other owner"
            return Proposal(trial.number, dict(trial.params), claim)

    def tell(self, proposal: Proposal, score: float) -> None:
        """Keeps a score; one that is not finite is a failure.

        Failures are kept as pruned trials: of those the sampler learns where not to go, of failed ones it does not.
        """
        failed = not abs(score) < float("inf")
        with self.lock:
            state = TrialState.PRUNED if failed else None
            self.study.tell(proposal.number, None if failed else score, state=state)
        proposal.claim.release()

    def trials(self) -> list[Trial]:
        """Returns the trials that were made, in the order of their proposal."""
        done = [trial for trial in self._proposed() if trial.state.is_finished()]
        return [Trial(dict(trial.params), float("nan") if trial.value is None else trial.value) for trial in done]

    def best(self) -> dict[str, float]:
        """Returns the values with the lowest score; nothing where all trials failed."""
        made = [trial for trial in self.trials() if trial.score == trial.score]
        return min(made, key=lambda trial: trial.score).values if made else {}

    def _proposed(self) -> list[FrozenTrial]:
        """All trials but those whose process died while it made the proposal."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.params.keys() == self.distributions.keys()]

    def _claim(self, number: int) -> FileLock | None:
        (self.folder / "claims").mkdir(exist_ok=True)
        claim = FileLock(self.folder / "claims" / f"{self.study._study_id}-{number}")
        try:
            claim.acquire(timeout=0)
        except Timeout:
            return None
        return claim
