"""Several optimiser steps in one training step of the Trainer, and the curve recorded on the way.

A step of a toy problem takes less time than the Trainer's own work around it: steps in chunks are up to ten times
faster, and `global_step` still counts optimiser steps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from ils_lightning.estimators import Estimator
from ils_lightning.modules.base import Tracked
from ils_lightning.modules.descent import plain_descent
from ils_lightning.modules.saved_curve import saved_curve


class ChunkedSteps(LightningModule):
    """Mixin for modules that train one tensor of `logits`.

    They define `step_loss`, `gradient`, `track` and `measures`, and call `take_steps`. With chunk = 1 Lightning does
    the optimisation, else `chunk_of_steps` does.
    """

    estimator: Estimator
    tracked: Tracked
    logits: nn.Parameter
    chunk: int
    record_every: int
    needs_no_graph: bool = False
    """Whether `gradient` is nothing but formulas, so that tensors need not be ready for differentiation."""
    _curve: list[tuple[Tensor, Tensor]]

    def prepare_chunks(self, chunk: int, record_every: int) -> None:
        """Sets the optimiser steps of one training step, and those between recorded points.

        With 0 there is one point a chunk, or a log where a chunk is one step.
        """
        self.chunk, self.record_every = chunk, record_every
        self.automatic_optimization = chunk == 1
        self._curve = []

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns the loss of one optimiser step on x; its sum is what is differentiated."""
        raise NotImplementedError(f"{type(self).__name__} must define step_loss(x)")

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of one optimiser step on x and the gradient of its sum to the logits, without autograd."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(x)")

    def track(self, logits: Tensor) -> Tensor:
        """Returns the tracked quantity `[points, *rows]` of snapshots of the logits `[points, ...]`."""
        raise NotImplementedError(f"{type(self).__name__} must define track(logits)")

    def measures(self) -> dict[str, Tensor]:
        """Returns what the present logits are logged with, by name; the tracked quantity is among them."""
        raise NotImplementedError(f"{type(self).__name__} must define measures()")

    def take_steps(self, x: Tensor) -> Tensor | None:
        """Takes an optimiser step for each entry of x, cut at the Trainer's max_steps, and logs.

        Returns:
            What Lightning is to differentiate, where it does the optimisation: then x has one entry.
        """
        if self.automatic_optimization:
            if self.is_due(self.record_every):
                self.record_now()
            loss = self.step_loss(x[0])
            if self.is_due():
                self._log_training(loss.detach())
            return loss.sum()
        self._log_training(self.chunk_of_steps(x))
        return None

    def _log_training(self, loss: Tensor) -> None:
        measured = self.measures()
        values = {"train/loss": loss.mean(), **{f"train/{name}": value for name, value in measured.items()}}
        if self.logits.grad is not None:
            values["train/gradient_norm"] = self.logits.grad.norm()
        values |= {f"train/{name}": value.float() for name, value in self.estimator.diagnostics().items()}
        values["step"] = torch.tensor(float(self.global_step))  # the x axis, in optimiser steps
        self.log_dict(values, batch_size=1)
        name = self.tracked.name
        self.log(name, measured[name], prog_bar=True, logger=False, batch_size=1)

    def chunk_of_steps(self, x: Tensor) -> Tensor:
        """Takes one optimiser step for each entry of x, cut at the Trainer's max_steps; returns their losses."""
        first, snapshots, losses = self.global_step, [], []
        every = self.record_every or self.chunk
        fill, step = self._gradient_step(), self._optimizer_step()
        logits = self.logits.detach()
        for number, entry in enumerate(self._within_max_steps(x), start=first):
            if number % every == 0 and (number > first or not self._has(first)):
                snapshots.append((number, logits.clone()))
            losses.append(fill(entry))
            step()
        self._count_steps(len(losses))
        self._record(snapshots)
        self._make_ordinary()
        return torch.stack(losses)

    def _within_max_steps(self, x: Tensor) -> Sequence[Tensor]:
        """The entries of x: one tensor for all where they are one in memory, so that what it needs is made once."""
        left = self.trainer.max_steps - self.global_step if self.trainer.max_steps >= 0 else len(x)
        x = x[:left]
        return [x[0]] * len(x) if x.stride(0) == 0 else x.unbind()

    def _gradient_step(self) -> Callable[[Tensor], Tensor]:
        """What fills gradients for one step and returns its loss.

        With nothing but the logits to train, and no other rank, the estimate is their gradient.
        """
        if self.trainer.world_size > 1 or any(True for _ in self.estimator.parameters()):
            return self._backward()
        logits, lean = self.logits, torch.inference_mode(self.needs_no_graph)

        def estimate(x: Tensor) -> Tensor:
            with lean:
                loss, logits.grad = self.gradient(x)
            return loss.detach()

        return estimate

    def _make_ordinary(self) -> None:
        """Copies what inference mode made and what stays, for tensors of that mode can never be part of a graph."""
        if self.logits.grad is not None and self.logits.grad.is_inference():
            self.logits.grad = self.logits.grad.clone()
        for module in self.estimator.modules():
            for name, state in module.named_buffers(recurse=False):
                if state.is_inference():
                    setattr(module, name, state.clone())

    def _backward(self) -> Callable[[Tensor], Tensor]:
        """The same by autograd, which lets the strategy average gradients over ranks."""
        trained = list(self.parameters())

        def backward(x: Tensor) -> Tensor:
            for parameter in trained:
                parameter.grad = None
            loss = self.step_loss(x)
            self.manual_backward(loss.sum())
            return loss.detach()

        return backward

    def _optimizer_step(self) -> Callable[[], Any]:
        """What takes one step of the optimiser, and of the scheduler where there is one."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        scheduler: Any = self.lr_schedulers()
        if scheduler is None:
            return plain_descent(optimizer) or optimizer.step

        def both() -> None:
            optimizer.step()
            scheduler.step()

        return both

    def _count_steps(self, steps: int) -> None:
        """Keeps the Trainer's global_step equal to the optimiser steps taken."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for count in (progress.total, progress.current):
            count.ready += steps
            count.completed += steps

    def is_due(self, every: int = 0) -> bool:
        """Whether the present step is one of those to log: every so many, the Trainer's number unless given."""
        trainer: Any = self.trainer
        every = every or trainer.log_every_n_steps
        return bool(every) and self.global_step % every == 0

    def record_now(self) -> None:
        """Records a point of the curve, once a step."""
        if not self._has(self.global_step):
            self._record([(self.global_step, self.logits.detach().clone())])

    def _has(self, step: int) -> bool:
        return len(self._curve) > 0 and int(self._curve[-1][0][-1]) == step

    def _record(self, snapshots: list[tuple[int, Tensor]]) -> None:
        if snapshots:
            steps, logits = zip(*snapshots, strict=True)
            self._curve.append((torch.tensor(steps), self.track(torch.stack(logits)).cpu()))

    def on_train_epoch_end(self) -> None:
        """Records the last point of the curve: now, so that the checkpoint written when training ends has it."""
        self.record_now()

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns recorded steps `[points]` and the tracked quantity `[points, *rows]`."""
        if not self._curve:
            return torch.zeros(0, dtype=torch.long), torch.zeros(0)
        steps, values = zip(*self._curve, strict=True)
        return torch.cat(steps), torch.cat(values)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Saves the curve, so that a resumed run continues it.

        A run that is resumed from a checkpoint of its last step has no epoch to end: its last point is in there.
        """
        super().on_save_checkpoint(checkpoint)
        if 0 <= self.trainer.max_steps <= self.global_step:
            self.record_now()
        steps, values = self.curve()
        checkpoint["curve"] = {"steps": steps, "values": values}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restores the curve."""
        super().on_load_checkpoint(checkpoint)
        if "curve" in checkpoint:
            steps, values = saved_curve(checkpoint["curve"])
            self._curve = [(steps, values)] if len(steps) else []
