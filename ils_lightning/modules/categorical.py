"""A learnable categorical logit vector against a true distribution: the smallest model with a discrete node."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import SGD

from ils_lightning import plots
from ils_lightning.data.draws import Targets
from ils_lightning.describe import create, in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.losses import ExpectedKL, LossAt, ToyLoss
from ils_lightning.metrics import KLPerCategory, LearntEntropy, TotalVariation, kl_divergence
from ils_lightning.modules.base import Charts, DiscreteModule, Problem, Tracked
from ils_lightning.modules.chunked import ChunkedSteps


class CategoricalFit(ChunkedSteps, DiscreteModule):
    """Learns pi = softmax(logits) of every row by gradient descent on the expected loss of its draws.

    Where the estimator draws from another distribution of these logits (`Estimator.distribution`), pi is that one;
    where it draws sets, pi is the probability of each category to be one picked from the set.

    Rows are independent trials `[trials]`, or `[settings, trials]` where estimator options are lists with one value a
    setting. The loss is summed over rows for the gradient, so the learning rate does not depend on their number, and
    logged as the mean.

    Args:
        estimator: any estimator.
        loss: of draws against the batch; `ExpectedKL()` unless given.
        categories: size of the variable; must match the data.
        trials: rows; must match the data.
        settings: settings that share the run; 0 for none.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation (needed
            for mixed precision, gradient accumulation and clipping), more is up to ten times faster.
        record_every: optimiser steps between points of the recorded curve (`curve`); 0 records once a chunk,
            and where steps are single when the Trainer logs.
        optimizer: SGD with learning rate 0.01 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> CategoricalFit(estimator=ReinMax(), trials=3).logits.shape
        torch.Size([3, 5])
    """

    monitor = "val/kl"
    tracked: Tracked = Tracked("kl", "KL(true || learnt) / categories")
    charts: ClassVar[Charts] = {
        "objective": {"KL(true || learnt) / categories": ["train/kl", "val/kl"], "loss of draws": ["train/loss"]},
        "learnt distribution": {"total variation": ["val/total_variation"], "entropy (nats)": ["val/entropy"]},
        "training": {"norm of the gradient": ["train/gradient_norm"]},
    }

    def __init__(
        self,
        estimator: Estimator,
        loss: ToyLoss | None = None,
        categories: int = 5,
        trials: int = 5,
        settings: int = 0,
        chunk: int = 100,
        record_every: int = 0,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.01),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        require_at_least(1, "CategoricalFit", categories=categories, trials=trials, chunk=chunk)
        require_at_least(0, "CategoricalFit", settings=settings, record_every=record_every)
        self.loss: ToyLoss = create(loss or ExpectedKL(), ToyLoss)
        self.save_hyperparameters(ignore=["estimator", "loss"])
        self.make_hyperparameters_plain(estimator=self.estimator, loss=self.loss)
        rows = (settings, trials) if settings else (trials,)
        self.logits = nn.Parameter(torch.rand(*rows, categories))
        self.estimator.build(self.loss.latents, categories)
        self.prepare_chunks(chunk, record_every)
        self.metrics = nn.ModuleDict(
            {"kl": KLPerCategory(), "total_variation": TotalVariation(), "entropy": LearntEntropy()}
        )
        self._p: Tensor | None = None
        self._loss_at = self.loss.at(self.logits.detach())
        self.needs_no_graph = self.estimator.closed_form and hasattr(self._loss_at, "closed_form_gradient")

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns the loss `[*rows]` of one optimiser step on x `[*rows, categories]`."""
        return self.estimator(self._latent_logits(), self._at(x))

    def _at(self, x: Tensor) -> LossAt:
        """The loss against x; steps in chunks that all see one tensor make it once."""
        if self._loss_at.x is not x:
            self._loss_at = self.loss.at(x)
        return self._loss_at

    def _latent_logits(self) -> Tensor:
        """The logits `[*rows, latents, categories]` of the draws which the loss compares: all of one distribution."""
        return _latent_axis(self.logits, self.loss.latents)

    def learnt(self, logits: Tensor) -> Tensor:
        """Returns pi `[*rows, points, categories]` of logits alike; options of the estimator hold one value a row."""
        q = self.estimator.distribution(logits)
        return q.pi / q.ones

    def present(self) -> Tensor:
        """Returns pi `[*rows, categories]` as it stands."""
        return self.learnt(self.logits.detach().unsqueeze(-2)).squeeze(-2)

    def problem(self, batch: Targets) -> Problem:
        """The loss of the batch's first step, per row."""
        return Problem(self._latent_logits(), self.loss.at(batch.x[0]))

    def meet(self, data: Any, stage: str) -> None:
        """Checks that data and model have the same rows, and that the estimator is defined for them."""
        del stage
        self.estimator.check(self._latent_logits())
        p = getattr(data, "p", None)
        if data is not None and p is None:
            raise Refusal(
                "CategoricalFit needs data with true distributions, such as --data SingleDraws; "
                f"given {type(data).__name__}"
            )
        if p is not None and p.shape != self.logits.shape:
            raise Refusal(
                "model and data must have the same [settings,] trials and categories; "
                f"the model has {list(self.logits.shape)}, the data {list(p.shape)}"
            )

    def training_step(self, batch: Targets) -> Tensor | None:
        """Takes as many optimiser steps as the batch holds, the last batch being cut at the Trainer's max_steps."""
        self._p = batch.p
        return self.take_steps(batch.x)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of one optimiser step and the gradient of its sum to the logits, without autograd."""
        logits = _latent_axis(self.logits.detach(), self.loss.latents)
        loss, estimate = self.estimator.estimate(logits, self._at(x))
        return loss, estimate.squeeze(-2) if self.loss.latents == 1 else estimate.sum(dim=-2)

    def track(self, logits: Tensor) -> Tensor:
        """Returns KL(true || learnt) / categories `[points, *rows]` of snapshots `[points, *rows, categories]`."""
        p: Any = self._p
        pi = self.learnt(logits.movedim(0, -2)).movedim(-2, 0)
        return kl_divergence(p, pi) / p.shape[-1]

    def measures(self) -> dict[str, Tensor]:
        """Returns the mean of KL(true || learnt) / categories."""
        p: Any = self._p
        return {"kl": (kl_divergence(p, self.present()) / p.shape[-1]).mean()}

    def on_train_epoch_end(self) -> None:
        """Records the last point of the curve, where there was data."""
        if self._p is not None:
            self.record_now()

    def validation_step(self, batch: Targets) -> None:
        """Measures how far the learnt distributions are from the true ones."""
        self._measure(batch, "val")

    def test_step(self, batch: Targets) -> None:
        """Measures how far the learnt distributions are from the true ones."""
        self._measure(batch, "test")

    def predict_step(self, batch: Targets) -> dict[str, Tensor]:
        """Returns true and learnt distributions `[*rows, categories]`."""
        return {"true": batch.p, "learnt": self.present()}

    def _measure(self, batch: Targets, stage: str) -> None:
        self._p = batch.p
        metrics: Any = self.metrics
        for name, metric in metrics.items():
            metric(batch.p, self.present())
            self.log(f"{stage}/{name}", metric, on_epoch=True, on_step=False, batch_size=1)
        if stage == "val":
            self.log("step", float(self.global_step), on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def figures(self) -> dict[str, Figure]:
        """True against learnt probabilities of the first trial, and the curve so far."""
        if self._p is None:
            return {}
        return {
            "true_and_learnt": plots.true_and_learnt(self._p.cpu(), self.present().cpu()),
            "curve": plots.curve(*self.curve(), label=type(self.estimator).__name__, quantity=self.tracked.label),
        }

    def histograms(self) -> dict[str, Tensor]:
        """Learnt probabilities and logits."""
        return {"probabilities": self.present(), "logits": self.logits.detach()}

    def summary(self) -> dict[str, str]:
        """The mean divergence at the first and last recorded step."""
        _, values = self.curve()
        return {
            "estimator": in_words(self.estimator),
            "KL / categories": f"{values[0].mean():.4f} -> {values[-1].mean():.4f}",
        }

    def note(self) -> str:
        """Whether a divergence has become infinite."""
        _, values = self.curve()
        if not len(values) or torch.isfinite(values[-1]).all():
            return ""
        return (
            "a learnt probability has reached 0: the steps are too large for this loss. ExpectedKL has slopes of "
            "1 / epsilon; lower --model.optimizer.lr, or try --model.loss RBFEnergy --data SingleDraws"
        )


def _latent_axis(logits: Tensor, latents: int) -> Tensor:
    logits = logits.unsqueeze(-2)
    return logits if latents == 1 else logits.expand(*logits.shape[:-2], latents, -1)
