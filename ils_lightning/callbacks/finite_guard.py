"""No training on numbers that are not numbers."""

from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal
from ils_lightning.set_up import require_numbers


class FiniteGuard(Callback):
    """Ends a run, or skips the step, when the loss or a gradient is NaN or infinite.

    Checkpoints already written stay as they are. A module that optimises by itself is looked at once a training step:
    its parameters are then what must be finite, and there is no step to skip. Gradients scaled for half precision may
    overflow by design; they are left to the scaler.

    Args:
        action: "stop" ends the run with the step, the quantity and the estimator named; "skip" leaves the step out and
            logs how many were left out as `train/skipped_steps`.

    Example:
        >>> from ils_lightning.callbacks import FiniteGuard
        >>> FiniteGuard(action="skip").skipped
        0
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop") -> None:
        if action not in ("stop", "skip"):
            raise Refusal(f"FiniteGuard: action must be 'stop' or 'skip'; given {action!r}")
        self.action, self.skipped = action, 0
        self._loss: Tensor | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to measure weights that are no numbers."""
        require_numbers(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to predict by weights that are no numbers."""
        require_numbers(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to validate weights that are no numbers; within a fit, its own steps are looked at."""
        if trainer.state.fn == "validate":
            require_numbers(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses weights of half precision under an optimiser whose eps such numbers cannot hold: it divides by 0."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                eps = group.get("eps")
                if eps and any(p.dtype is torch.float16 for p in group["params"]) and not torch.tensor(eps).half():
                    raise Refusal(
                        f"{type(optimizer).__name__} divides by 0 in --trainer.precision 16-true, for float16 cannot "
                        f"hold its eps = {eps}: give --model.optimizer.eps 1e-4, or precision bf16-true or 16-mixed"
                    )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Adds up the losses of one optimiser step."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks at the loss and at the norm of all gradients."""
        loss, self._loss = self._loss, None
        if loss is None or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        trained = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in trained if p.grad is not None]
        norm = gradients[0].norm() if len(gradients) == 1 else torch.nn.utils.get_total_norm(gradients)
        if not _on_any_rank(trainer, not torch.isfinite(loss + norm)):  # one wait for the device
            return
        if self.action == "stop":
            named = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
            wrong = [name for name, gradient in named.items() if not torch.isfinite(gradient).all()]
            raise Refusal(_message(trainer, pl_module, f"the loss is {loss:.4g}", wrong))
        self.skipped += 1
        optimizer.zero_grad()
        pl_module.log("train/skipped_steps", float(self.skipped))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Looks at the parameters of a module that optimises by itself."""
        if pl_module.automatic_optimization:
            return
        wrong = [name for name, value in pl_module.named_parameters() if not torch.isfinite(value).all()]
        if wrong:
            raise Refusal(_message(trainer, pl_module, "parameters are not finite", wrong))


def _on_any_rank(trainer: Trainer, broken: bool) -> bool:
    """Whether any rank saw it: gradients are averaged, losses are not, and all ranks must leave out the same steps."""
    return broken if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(broken, all=False)


def _message(trainer: Trainer, module: LightningModule, what: str, names: list[str]) -> str:
    estimator = getattr(module, "estimator", None)
    owner = f", estimator {in_words(estimator)}" if estimator is not None else ""
    of = f" (not finite: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    return (
        f"FiniteGuard: at optimiser step {trainer.global_step} {what}{of}{owner}. Checkpoints written before stay; a "
        "lower learning rate is the usual cure, --trainer.gradient_clip_val or FiniteGuard(action='skip') others"
    )
