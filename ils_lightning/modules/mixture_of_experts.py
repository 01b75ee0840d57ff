"""A mixture of experts that predicts characters: a transformer whose routers learn by any estimator.

    in each layer and for each token:  z ~ softmax(gate(x)), k experts;   x <- x + sum_e w_e(z) expert_e(x)
    loss = -log p(next character) + balance * mean load-balance loss

A token's draw changes the losses of all later tokens, through attention. Pathwise estimators get that slope by
backpropagation; score functions get the cost-to-go, the sum of the losses from that token on.

Source: W. Fedus, B. Zoph and N. Shazeer, Switch Transformers, 2021, 2101.03961 (one expert a token, load balance).
"""

import math
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from ils_lightning.data.characters import ALPHABET, codes_of, text_of
from ils_lightning.data.passage_set import Passages
from ils_lightning.describe import create, describe
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.categorical import draw_index
from ils_lightning.layers import Router, Routing
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.measured_experts import MeasuredExperts
from ils_lightning.networks.experts import ExpertBlock

_WRITTEN = 300  # characters of the text that is shown
_SEEN = 128  # characters that a character is sampled from


class MixtureOfExperts(MeasuredExperts):
    """Learns to write text, character by character, with few of its experts for each.

    Reported are bits a character along the likeliest experts (`bits`), the entropy of their load in nats
    (`load_entropy`), and, with one expert a token, how the gradient of the last layer's router compares with the exact
    one: the cosine of its mean (`router_cosine`) and its variance relative to the exact one's square (`router_noise`).

    Args:
        estimator: of the gradient through the choice of experts: any sampler or score function that `Router` takes,
            `TopKGate` and `DenseMixer`, which draw nothing, among them. Each layer has one of its own, made alike.
        experts: how many each layer has, at least 2.
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

    routes = True

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
        require_at_least(2, "MixtureOfExperts", experts=experts)
        require_at_least(1, "MixtureOfExperts", width=width, layers=layers, heads=heads, hidden=hidden)
        if width % (2 * heads):
            raise Refusal(f"MixtureOfExperts: width must be a multiple of twice heads; given {width} and {heads}")
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
        self.prepare_measures(layers)

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

    def evaluations(self, batch: Passages) -> float:
        """Outputs of single experts for single tokens that a training step computes, in all layers."""
        each = self.experts if self.estimator.needs_slopes == "all" else self.top_k
        return float(batch.characters[:, 1:].numel() * len(self.blocks) * each * self.group)

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

    def summary(self) -> dict[str, str]:
        """Bits a character, loads, the router's gradient, and a text."""
        return super().summary() | {"a text of its own": self.texts()["sample"]}


def _credits(losses: Tensor, routings: list[Routing]) -> Tensor:
    """Zero, whose backward gives each layer's draws the sum of the losses `[*batch, length]` from theirs on."""
    credits = [one.credit for one in routings if one.credit is not None]
    if not credits:
        return losses.new_zeros(())
    to_go = losses.detach().flip(-1).cumsum(dim=-1).flip(-1)
    tied = [(credit(to_go) - to_go).sum() for credit in credits]
    return torch.stack(tied).sum() / losses.numel()
