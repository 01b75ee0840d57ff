"""What a world model's runs show: its measures on held-out episodes, their names and units, and its pictures."""

from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics import MeanMetric

from ils_lightning.data.episodes import Episodes
from ils_lightning.describe import in_words
from ils_lightning.modules.base import Charts, Tracked
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.world_model_pictures import imagined_episodes, imagined_views
from ils_lightning.modules.world_paths import Parts, Path
from ils_lightning.networks.state_space import Decoded, StateSpace

_EPISODES = 2  # in the picture
_DREAMS = 6  # of each


class WorldMeasures(Measured):
    """The base of world models: subclasses say what a path is, what it costs, and how one is imagined.

    Attributes:
        context: observed steps before imagination is measured.
        horizon: imagined steps.
    """

    _abstract = True

    test_after_fit = True
    in_bar = ("open_loop_error",)
    tracked: Tracked = Tracked("loss", "-ELBO of a step, training episodes (nats)")
    charts: ClassVar[Charts] = {
        "objective": {
            "-ELBO of a step (nats)": ["train/loss", "val/loss"],
            "what is minimised": ["train/objective", "val/objective"],
            "-log p of an observation (nats)": ["train/reconstruction", "val/reconstruction"],
            "KL (nats)": ["train/kl", "val/kl"],
        },
        "imagination": {
            "squared error of imagined steps (variances)": ["val/open_loop_error"],
            "wrong about going on": ["val/wrong_ends"],
            "wrong about the reward": ["val/wrong_rewards"],
        },
    }
    networks: StateSpace
    context: int
    horizon: int

    def prepare_measures(self) -> None:
        """Makes the metrics and the curve; a subclass calls it when it is made."""
        names = ("loss", "objective", "reconstruction", "kl", "open_loop_error", "wrong_ends", "wrong_rewards")
        self.metrics = nn.ModuleDict({name: MeanMetric() for name in names})
        self._shown: Episodes | None = None
        self.prepare_curve()

    def prior(self, h: Tensor) -> Tensor:
        """Returns the logits of p, given h `[*batch, recurrent]`."""
        raise NotImplementedError(f"{type(self).__name__} must define prior(h)")

    def parts(self, path: Path, p: Tensor, episodes: Episodes) -> Parts:
        """Returns the nats of each step of a path `[*batch, length]`, p being the prior's logits along it."""
        raise NotImplementedError(f"{type(self).__name__} must define parts(path, p, episodes)")

    def objective(self, found: Parts, to_p: Tensor, to_q: Tensor) -> Tensor:
        """Returns what is minimised, of each step."""
        raise NotImplementedError(f"{type(self).__name__} must define objective(found, to_p, to_q)")

    def imagine(self, h: Tensor, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Goes on from h and z `[batch, ...]` by the prior alone, along actions `[batch, steps]` of one episode."""
        raise NotImplementedError(f"{type(self).__name__} must define imagine(h, z, actions)")

    def measure(self, batch: Episodes) -> None:
        """Measures drawn paths, and imagination after the context."""
        metrics: Any = self.metrics
        path = self(batch)
        found = self.parts(path, self.prior(path.h), batch)
        metrics["loss"].update(torch.stack(found).sum(dim=0))
        metrics["objective"].update(self.objective(found, found.kl, found.kl))
        metrics["reconstruction"].update(found.reconstruction)
        metrics["kl"].update(found.kl)
        told = self.networks.decode(path.h, path.z)
        metrics["wrong_ends"].update(((told.goes_on > 0) != (batch.goes_on > 0)).float())
        metrics["wrong_rewards"].update(((told.reward > 0) != (batch.reward > 0)).float())
        imagined, true = self._imagined(path, batch).observation, self._ahead(batch.observation)
        same = self._ahead(batch.first).cumsum(dim=1) == 0  # what was never begun is not held against it
        metrics["open_loop_error"].update((imagined - true).square().mean(dim=-1)[same])
        if self._shown is None:
            longest = batch.first[:, 1:].float().cumsum(dim=1).eq(0).sum(dim=1).argsort(descending=True)[:_EPISODES]
            self._shown = Episodes(*(part[longest] for part in batch))

    def _ahead(self, values: Tensor) -> Tensor:
        """What of values `[batch, length, ...]` is imagined."""
        return values[:, self.context : self.context + self.horizon]

    def _imagined(self, path: Path, batch: Episodes) -> Decoded:
        """What is decoded of the steps that are imagined after the context, `[batch, horizon, ...]`."""
        last = self.context - 1
        h, z = self.imagine(path.h[:, last], path.z[:, last], self._ahead(batch.action))
        return self.networks.decode(h, z)

    def figures(self) -> dict[str, Figure]:
        """Validation episodes, true, and as the model follows and then imagines them."""
        if self._shown is None:
            return {}
        batch = Episodes(*(part.to(self.device) for part in self._shown))
        with evaluating(self), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            path = self(batch)
            followed = self.networks.decode(path.h, path.z).observation[:, : self.context]
            dreams = torch.stack([self._imagined(path, batch).observation for _ in range(_DREAMS)])
        shown = Episodes(*(part.cpu() for part in batch)), followed.cpu(), dreams.cpu()
        cells = getattr(self.datamodule, "cells", None)
        return {"imagined": imagined_views(*shown, cells) if cells else imagined_episodes(*shown)}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        """Names and units of what is measured."""
        words = {
            "loss": ("-ELBO of a step", f"{value:.3f} nats"),
            "objective": ("what is minimised, a step", f"{value:.3f} nats"),
            "reconstruction": ("-log p of an observation", f"{value:.3f} nats"),
            "kl": ("KL of a step", f"{value:.3f} nats"),
            "open_loop_error": (f"squared error, imagined {self.horizon} steps", f"{value:.4f} variances"),
            "wrong_ends": ("wrong about whether an episode goes on", f"{value:.2%} of steps"),
            "wrong_rewards": ("wrong about the reward", f"{value:.2%} of steps"),
        }
        return words.get(name) or super().in_words(name, value)

    def summary(self) -> dict[str, str]:
        """What validation measured."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        measured = [name for name in found if name.startswith("val/")]
        rows = {"estimator": in_words(self.estimator)}
        rows |= dict(self.in_words(name.removeprefix("val/"), found[name]) for name in measured)
        return rows | self.summary_of_data()
