"""What is measured and shown of a mixture of experts on text: bits, loads, the gradient of its last router."""

import math
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from ils_lightning.data.characters import text_of
from ils_lightning.data.passage_set import Passages
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Sampler, SparseMixer
from ils_lightning.layers import Router, Routing
from ils_lightning.metrics import CodeEntropy, GradientCosine, RelativeVariance
from ils_lightning.modules import router_gradient
from ils_lightning.modules.base import Charts, Problem, Tracked
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.measured import Measured
from ils_lightning.text_plots import coloured_text

_REPLICATES = 8  # estimates of a router's gradient at a validation
_SHOWN = 512  # characters of the picture


class MeasuredExperts(Measured):
    """The base of `MixtureOfExperts`: what its validation and test measure, and what a fit shows.

    A subclass makes the layers below, calls `prepare_measures`, and writes `forward`, which returns the logits of the
    next character and each layer's routing.
    """

    _abstract = True

    experts: int
    top_k: int
    embedding: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    last: nn.Module
    monitor = "val/bits"
    test_after_fit = True
    in_bar = ("bits",)
    tracked: Tracked = Tracked("bits", "validation, bits a character")
    charts: ClassVar[Charts] = {
        "objective": {"bits a character": ["train/loss", "val/bits"]},
        "routers": {
            "entropy of the load (nats)": ["train/load_entropy", "val/load_entropy"],
            "load-balance loss": ["train/balance"],
            "cosine to the exact gradient, last layer": ["val/router_cosine"],
            "relative variance, last layer": ["val/router_noise"],
        },
    }

    def prepare_measures(self, layers: int) -> None:
        """Makes the metrics of so many layers, and starts an empty curve."""
        self.metrics = nn.ModuleDict({"bits": MeanMetric(), "load_entropy": CodeEntropy(layers, self.experts)})
        if self.top_k == 1:
            self.metrics.update({"router_cosine": GradientCosine(), "router_noise": RelativeVariance()})
        self._shown: Tensor | None = None
        self.prepare_curve()

    @property
    def group(self) -> int:
        """Copies of each passage in a step: the draws that a score function holds against each other."""
        return 1 if isinstance(self.estimator, Sampler) else self.estimator.evaluations(1, self.experts)

    def losses(self, characters: Tensor) -> tuple[Tensor, list[Routing]]:
        """Returns -log p `[*batch, length]` of all but the first character, in nats, and the routings."""
        logits, routings = self(characters[..., :-1])
        return functional.cross_entropy(logits.movedim(-1, 1), characters[..., 1:], reduction="none"), routings

    def count(self, values: Tensor) -> None:
        """Leaves the training loss to the logs: the curve is that of validation."""

    def on_validation_epoch_end(self) -> None:
        """Adds a point to the curve, inside a fit, and logs."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            metrics: Any = self.metrics
            steps, values = self._curve
            bits = metrics["bits"].compute().reshape(1, 1).cpu()
            self._curve = torch.cat([steps, torch.tensor([self.global_step])]), torch.cat([values, bits])
        super().on_validation_epoch_end()

    def measure(self, batch: Passages) -> None:
        """Measures bits and loads, and of the first batch the gradient of the last router."""
        metrics: Any = self.metrics
        losses, routings = self.losses(batch.characters)
        metrics["bits"].update(losses / math.log(2))
        metrics["load_entropy"].update(torch.stack([one.experts for one in routings], dim=-1))
        if "router_cosine" in metrics and not metrics["router_cosine"].update_called:
            self._measure_router(batch.characters)
        if self._shown is None:
            self._shown = batch.characters[:, 1:].flatten()[:_SHOWN].clone()

    def _measure_router(self, characters: Tensor) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            logits, loss = self._last_layer(characters.clone())
            router = self._last_router()
            gradient = router_gradient.exact(logits, router, loss).unsqueeze(-2)
            found = router_gradient.estimates(logits, router, loss, self.group, _REPLICATES).unsqueeze(-2)
        metrics: Any = self.metrics
        for name in ("router_cosine", "router_noise"):
            metrics[name].update(found, gradient)

    def _last_router(self) -> Router:
        block: Any = self.blocks[-1]
        return block.router

    @torch.no_grad()
    def _last_layer(self, characters: Tensor) -> tuple[Tensor, router_gradient.LossOfWeights]:
        """The last router's logits of each token `[tokens, experts]`, and its loss by the experts' weights."""
        x, targets = self.embedding(characters[..., :-1]), characters[..., 1:].flatten()
        blocks: Any = self.blocks
        *first, last = blocks
        for block in first:
            x, _ = block(x)
        stream, tokens = (part.flatten(0, -2) for part in last.before(x))
        outputs = last.experts.outputs(tokens)

        def loss(weights: Tensor) -> Tensor:
            mixed = stream + torch.einsum("...te,tew->...tw", weights, outputs)
            log_p = self.last(self.norm(mixed)).log_softmax(dim=-1)
            return -log_p.gather(-1, targets.expand(log_p.shape[:-1]).unsqueeze(-1)).squeeze(-1)

        return last.gate(tokens), loss

    def problem(self, batch: Passages) -> Problem:
        """The last router's logits, a row for each token, and the token's loss; weights stand as they are."""
        router = self._last_router()
        if self.top_k > 1 and isinstance(self.estimator, SparseMixer):
            raise Refusal("diagnose measures draws of one expert, or of subsets; SparseMixer draws one after another")
        logits, loss = self._last_layer(batch.characters)
        p = logits.softmax(dim=-1)
        return Problem(logits.unsqueeze(-2), lambda z: loss(router.weigh(z.squeeze(-2), p)))

    def figures(self) -> dict[str, Figure]:
        """A validation text, coloured by the expert that the last layer chose first for each character."""
        if self._shown is None:
            return {}
        with evaluating(self):
            _, routings = self(self._shown.to(self.device).unsqueeze(0))
        chosen = routings[-1].experts[0, :, 0].tolist()
        return {"experts": coloured_text(text_of(self._shown), chosen, "validation text, coloured by its last expert")}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        """Names and units of what is measured."""
        words = {
            "bits": ("bits a character", f"{value:.3f}"),
            "load_entropy": ("entropy of the load", f"{value:.3f} of {math.log(self.experts):.3f} nats"),
            "router_cosine": ("cosine to the router's exact gradient, last layer", f"{value:.3f}"),
            "router_noise": ("variance of that gradient, relative", f"{value:.3g}"),
        }
        return words.get(name) or super().in_words(name, value)

    def summary(self) -> dict[str, str]:
        """Bits a character, loads and the router's gradient, of the validation text."""
        rows = {"estimator": in_words(self.estimator)}
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        measured = [name for name in found if name.startswith("val/")]
        rows |= dict(self.in_words(name.removeprefix("val/"), found[name]) for name in measured)
        return rows | self.summary_of_data()
