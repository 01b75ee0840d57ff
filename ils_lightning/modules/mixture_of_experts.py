"""A mixture of experts that predicts characters: a transformer whose routers learn by any estimator.

    in each layer and for each token:  z ~ softmax(gate(x)), k experts;   x <- x + sum_e w_e(z) expert_e(x)
    loss = -log p(next character) + balance * mean load-balance loss

A token's draw changes the losses of all later tokens, through attention. Pathwise estimators get that slope by
backpropagation; score functions get the cost-to-go, the sum of the losses from that token on.

Source: W. Fedus, B. Zoph and N. Shazeer, Switch Transformers, 2021, 2101.03961 (one expert a token, load balance).
"""

import math
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torchmetrics import MeanMetric

from ils_lightning.data.characters import ALPHABET, codes_of, text_of
from ils_lightning.data.passage_set import Passages
from ils_lightning.describe import create, describe, in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Sampler, SparseMixer
from ils_lightning.estimators.categorical import draw_index
from ils_lightning.layers import Router, Routing
from ils_lightning.metrics import CodeEntropy, GradientCosine, RelativeVariance
from ils_lightning.modules import router_gradient
from ils_lightning.modules.base import Charts, Problem, Tracked
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.measured import Measured
from ils_lightning.networks.experts import ExpertBlock
from ils_lightning.text_plots import coloured_text

_REPLICATES = 8  # estimates of a router's gradient at a validation
_SHOWN = 512  # characters of the picture
_WRITTEN = 300  # characters of the text that is shown
_SEEN = 128  # characters that a character is sampled from


class MixtureOfExperts(Measured):
    """Learns to write text, character by character, with few of its experts for each.

    Reported are bits a character along the likeliest experts (`bits`), the entropy of their load in nats
    (`load_entropy`), and, with one expert a token, how the gradient of the last layer's router compares with the exact
    one: the cosine of its mean (`router_cosine`) and its variance relative to the exact one's square (`router_noise`).

    Args:
        estimator: of the gradient through the choice of experts: any sampler or score function that `Router` takes,
            `TopKGate` and `DenseMixer`, which draw nothing, among them. Each layer has one of its own, made alike.
        experts: how many each layer has.
        top_k: experts of a token.
        width: of tokens.
        layers: how many there are.
        heads: of the attention.
        hidden: units of each expert.
        balance: weight of the load-balance loss.
        optimizer: Adam with learning rate 0.004 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> model = MixtureOfExperts(estimator="ReinMax", width=16, layers=2, heads=2, hidden=16)
        >>> logits, routings = model(torch.zeros(3, 10, dtype=torch.long))
        >>> logits.shape, routings[0].experts.shape
        (torch.Size([3, 10, 97]), torch.Size([3, 10, 1]))
    """

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

    def __init__(
        self,
        estimator: Estimator,
        experts: int = 8,
        top_k: int = 1,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 64,
        balance: float = 0.01,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.004),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        if min(width, layers, heads, hidden) < 1 or width % (2 * heads):
            raise Refusal(
                "MixtureOfExperts: width, layers, heads and hidden must be at least 1, and width a multiple of twice "
                f"heads; given {width}, {layers}, {heads} and {hidden}"
            )
        if not 0 <= balance < math.inf:
            raise Refusal(f"MixtureOfExperts: balance must be 0 or more; given {balance}")
        self.experts, self.top_k, self.balance = experts, top_k, balance
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        copies = [create(describe(self.estimator), Estimator) for _ in range(layers - 1)]
        routers = [Router(experts, top_k, one) for one in (self.estimator, *copies)]
        for router in routers:
            router.estimator.build(1, experts)
        self.embedding = nn.Embedding(len(ALPHABET), width)
        self.blocks = nn.ModuleList(ExpertBlock(width, heads, hidden, router) for router in routers)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, len(ALPHABET))
        self.metrics = nn.ModuleDict({"bits": MeanMetric(), "load_entropy": CodeEntropy(layers, experts)})
        if top_k == 1:
            self.metrics.update({"router_cosine": GradientCosine(), "router_noise": RelativeVariance()})
        self._shown: Tensor | None = None
        self.prepare_curve()

    @property
    def group(self) -> int:
        """Copies of each passage in a step: the draws that a score function holds against each other."""
        return 1 if isinstance(self.estimator, Sampler) else self.estimator.evaluations(1, self.experts)

    def meet(self, data: Any, stage: str) -> None:
        """Refuses data that are no text."""
        super().meet(data, stage)
        if data is not None and not hasattr(data, "codes"):
            raise Refusal(
                f"MixtureOfExperts needs data that are text, such as --data Text; given {type(data).__name__}"
            )

    def forward(self, characters: Tensor) -> tuple[Tensor, list[Routing]]:
        """Returns logits of the next character `[*batch, tokens, 97]` and each layer's routing, of codes alike."""
        x, routings = self.embedding(characters), []
        for block in self.blocks:
            x, routing = block(x)
            routings.append(routing)
        return self.last(self.norm(x)), routings

    def losses(self, characters: Tensor) -> tuple[Tensor, list[Routing]]:
        """Returns -log p `[*batch, length]` of all but the first character, in nats, and the routings."""
        logits, routings = self(characters[..., :-1])
        return functional.cross_entropy(logits.movedim(-1, 1), characters[..., 1:], reduction="none"), routings

    def training_step(self, batch: Passages) -> Tensor:
        """Returns the loss."""
        losses, routings = self._losses_of_group(batch.characters)
        balance = torch.stack([one.balance for one in routings]).mean()
        entropy = torch.stack([one.load_entropy() for one in routings]).mean()
        self.log_training(losses.mean(dim=-1).flatten() / math.log(2), balance=balance, load_entropy=entropy)
        return losses.mean() + _credits(losses, routings) + self.balance * balance

    def _losses_of_group(self, characters: Tensor) -> tuple[Tensor, list[Routing]]:
        """The same of `group` copies, `[group, batch, length]`, each of which draws for itself."""
        copies = characters.expand(self.group, *characters.shape)
        logits, routings = self(copies[..., :-1])
        losses = functional.cross_entropy(logits.flatten(0, -2), copies[..., 1:].flatten(), reduction="none")
        return losses.view_as(copies[..., 1:]), routings

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

    def evaluations(self, batch: Passages) -> float:
        """Outputs of single experts for single tokens that a training step computes, in all layers."""
        each = self.experts if self.estimator.needs_slopes == "all" else self.top_k
        return float(batch.characters[:, 1:].numel() * len(self.blocks) * each * self.group)

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

    def predict_step(self, batch: Passages) -> dict[str, Tensor]:
        """Returns bits of each character `[batch, length]` and its experts `[batch, length, layers, top_k]`."""
        losses, routings = self.losses(batch.characters)
        return {"bits": losses / math.log(2), "experts": torch.stack([one.experts for one in routings], dim=-2)}

    def write(
        self, count: int, length: int = _WRITTEN, start: str = "\n", generator: Generator | None = None
    ) -> list[str]:
        """Samples texts, character by character, along the likeliest experts; each goes on from `start`.

        Args:
            count: how many texts.
            length: characters to add.
            start: what is given, at least a character.
            generator: of the draws.
        """
        if min(count, length, len(start)) < 1:
            raise Refusal(
                f"write: count, length and the start must be at least 1 long; given {count}, {length} and {start!r}"
            )
        written = codes_of(start).long().to(self.device).expand(count, -1)
        with evaluating(self):
            for _ in range(length):
                logits, _ = self(written[:, -_SEEN:])
                pi = logits[:, -1, :-1].float().softmax(dim=-1)  # never the sign for what is not in the alphabet
                written = torch.cat([written, draw_index(pi, generator=generator).unsqueeze(-1)], dim=-1)
        return [text_of(one) for one in written]

    def texts(self) -> dict[str, str]:
        """A text that the model writes, the same draws each time."""
        return {"sample": self.write(1, generator=Generator(self.device).manual_seed(0))[0].strip()}

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
        """Bits a character, loads, the router's gradient, and a text."""
        rows = {"estimator": in_words(self.estimator)}
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        measured = [name for name in found if name.startswith("val/")]
        rows |= dict(self.in_words(name.removeprefix("val/"), found[name]) for name in measured)
        return rows | self.summary_of_data() | {"a text of its own": self.texts()["sample"]}


def _credits(losses: Tensor, routings: list[Routing]) -> Tensor:
    """Zero, whose backward gives each layer's draws the sum of the losses `[*batch, length]` from theirs on."""
    credits = [one.credit for one in routings if one.credit is not None]
    if not credits:
        return losses.new_zeros(())
    to_go = losses.detach().flip(-1).cumsum(dim=-1).flip(-1)
    tied = [(credit(to_go) - to_go).sum() for credit in credits]
    return torch.stack(tied).sum() / losses.numel()
