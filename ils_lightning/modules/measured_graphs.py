"""What is measured and shown of relational inference: -ELBO, wrong edges, errors of what comes later, graphs."""

from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics import MeanMetric

from ils_lightning.data.trajectory_set import Trajectories
from ils_lightning.describe import in_words
from ils_lightning.modules.base import Charts, Tracked
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.prior import UniformPrior
from ils_lightning.modules.relational_pictures import graphs_and_paths
from ils_lightning.networks.relations import InteractionDecoder

_SHOWN = 3  # simulations in a picture


class MeasuredGraphs(Measured):
    """The base of `RelationalInference`: what its validation and test measure, and what a fit shows.

    A subclass sets `steps` and `variance`, makes `decoder` and `prior`, calls `prepare_measures`, and writes `logits`,
    `springs` and `predict_step`.
    """

    _abstract = True

    decoder: InteractionDecoder
    prior: UniformPrior
    steps: int
    variance: float
    in_bar = ("wrong_edges",)
    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-ELBO of training simulations (nats)")
    charts: ClassVar[Charts] = {
        "objective": {
            "-ELBO (nats)": ["train/loss", "val/loss"],
            "wrong edges": ["val/wrong_edges"],
            "KL (nats)": ["train/kl", "val/kl"],
        },
        "prediction": {
            "squared error, one step": ["val/one_step_error"],
            "squared error, all later points in a row": ["val/rollout_error"],
        },
    }

    def prepare_measures(self) -> None:
        """Makes the metrics, and starts an empty curve."""
        names = ("loss", "kl", "wrong_edges", "one_step_error", "rollout_error")
        self.metrics = nn.ModuleDict({one: MeanMetric() for one in names})
        self._shown: Trajectories | None = None
        self.prepare_curve()

    def logits(self, x: Tensor) -> Tensor:
        """Returns the logits `[batch, latents, 2]` of trajectories `[batch, particles, points, 4]`."""
        raise NotImplementedError(f"{type(self).__name__} must define logits(x)")

    def springs(self, z: Tensor) -> Tensor:
        """Returns how much of a spring each directed edge is, `[*any, edges]`, of types `[*any, latents, 2]`."""
        raise NotImplementedError(f"{type(self).__name__} must define springs(z)")

    def measure(self, batch: Trajectories) -> None:
        """Measures one exact draw, and the most probable graph, of each simulation."""
        metrics: Any = self.metrics
        q = self.estimator.distribution(self.logits(batch.x))
        kl = self.prior.kl(q).sum(dim=-1)
        drawn = self.decoder.predict(batch.x, self.springs(q.draw()), self.steps)
        error = (drawn - batch.x[..., 1:, :]).float().square().sum(dim=(-3, -2, -1))
        spring = self.springs(q.mode())
        seen = torch.cat([batch.x[..., -1:, :], batch.future], dim=-2)
        metrics["loss"].update(error / (2 * self.variance) + kl)
        metrics["kl"].update(kl)
        metrics["wrong_edges"].update((spring.long() != batch.edges).float())
        for name, steps in (("one_step_error", 1), ("rollout_error", batch.future.shape[-2])):
            metrics[name].update((self.decoder.predict(seen, spring, steps) - batch.future).float().square())
        if self._shown is None:
            self._shown = Trajectories(*(part[:_SHOWN].clone() for part in batch))

    def figures(self) -> dict[str, Figure]:
        """Simulations: the true graph, the inferred one, and the way of the particles beside the predicted one."""
        if self._shown is None:
            return {}
        batch = Trajectories(*(part.to(self.device) for part in self._shown))
        with evaluating(self):
            found = self.predict_step(batch)
        parts = (batch.edges, found["edges"], batch.x, batch.future, found["later"])
        return {"graphs": graphs_and_paths(*(part.float().cpu() for part in parts))}

    def histograms(self) -> dict[str, Tensor]:
        """Probabilities of a spring, of the edges of the simulations in the picture."""
        if self._shown is None:
            return {}
        with evaluating(self):
            logits = self.logits(self._shown.x.to(self.device))
        return {"spring_probability": self.estimator.distribution(logits).pi[..., 1].flatten()}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        """Names and units of what is measured."""
        words = {
            "loss": ("-ELBO", f"{value:.1f} nats"),
            "kl": ("KL", f"{value:.2f} nats"),
            "wrong_edges": ("wrong edges", f"{value:.1%}"),
            "one_step_error": ("squared error of later points, one step", f"{value:.2e}"),
            "rollout_error": ("squared error of later points, all in a row", f"{value:.2e}"),
        }
        return words.get(name) or super().in_words(name, value)

    def summary(self) -> dict[str, str]:
        """What the validation simulations measured."""
        rows = {"estimator": in_words(self.estimator)}
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        for stage, words in (("val", "validation"), ("test", "test")):
            measured = [name for name in found if name.startswith(f"{stage}/")]
            told = [self.in_words(name.removeprefix(f"{stage}/"), found[name]) for name in measured]
            rows |= {f"{words} {what}": value for what, value in told}
        return rows | self.summary_of_data()
