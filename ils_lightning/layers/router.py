"""The router of a mixture of experts: draws of k experts for each token, through any estimator."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ils_lightning.describe import create, in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Sampler, SparseMixer, TopKSubset
from ils_lightning.estimators.categorical import entropy, softmax, top
from ils_lightning.estimators.credit import Credit, nothing
from ils_lightning.estimators.replacing import drawn, draws_are_replaced
from ils_lightning.functional import unimix as mix
from ils_lightning.layers.gates import TopKGate

Combine = Literal["probabilities", "renormalized", "even"]


class _Decided(NamedTuple):
    """The five items of a `Routing`, which holds a note beside them."""

    weights: Tensor
    experts: Tensor
    balance: Tensor
    load: Tensor
    credit: Credit | None = None


class Routing(_Decided):
    """What a router decided for each token.

    Attributes:
        weights: of each expert's output `[*batch, experts]`, zero where it was not drawn; the gradient passes through.
        experts: the drawn ones `[*batch, k]`, int64, -1 where the token is masked.
        balance: the load-balance loss, a scalar: 1 where draws and probabilities are even (Fedus et al., 2022,
            2101.03961), to be added to the model's loss with a small weight.
        load: share of the draws that each expert got `[experts]`.
        credit: takes the cost of each token's draws, where the estimator is a score function; else None. In evaluation
            it hands the cost back.
        slopes: no item of the tuple: the name of the estimator, where it trains by the slopes at all experts and so
            wants the output of each.
    """

    slopes: str = ""

    def drawn_weights(self) -> Tensor:
        """The weights of the drawn experts alone `[*batch, k]`.

        Raises:
            ValueError: in the backward pass, where the estimator uses the slopes at all experts: with the outputs of
                the drawn ones alone its gradient would be wrong. Compiled code cannot tell.
        """
        weights = self.weights.gather(-1, self.experts.clamp(min=0))
        if self.slopes and weights.requires_grad:
            weights.register_hook(partial(_refuse, self.slopes))
        return weights

    def load_entropy(self) -> Tensor:
        """Entropy of the load in nats: log of the number of experts where it is even."""
        return entropy(self.load)


def _refuse(name: str, gradient: Tensor) -> None:
    del gradient
    raise Refusal(
        f"Router: {name} uses the slopes at all experts, so that a layer which runs the drawn ones alone gets a wrong "
        "gradient: weigh the output of each expert by routing.weights, or take an estimator that needs the drawn ones "
        "only (SparseMixer, LeaveOneOut)"
    )


class Router(nn.Module):
    """Turns logits `[*batch, experts]` into a `Routing`: k experts a token, drawn in training, the likeliest otherwise.

    An estimator that uses the slopes at all experts (`estimator.needs_slopes == "all"`: straight-through, ReinMax, the
    ILS family) needs the output of every expert in training, which costs as much as a dense layer:

        y = torch.einsum("te,ted->td", routing.weights, all_outputs)

    One that uses the drawn ones' only ("drawn": `SparseMixer` and its later forms), or none ("none": score functions),
    needs no more than `routing.experts` and `routing.drawn_weights()`. Of those the score functions take the token's
    cost through `routing.credit(cost)`.

    Tokens are rows: what an estimator pools it pools over them. Draws of k > 1 are k-subsets (`TopKSubset`,
    `TopKReinMax`), or one after another without replacement (`SparseMixer`). Those are weighed and differentiated as
    published: each by its probability among the experts that were left, in evaluation too, and as if which ones were
    left were given, so that even for a linear loss the gradient is exact for k = 1 alone. `TopKGate` and `DenseMixer`
    draw nothing: they take the likeliest k in training too.

    Args:
        experts: how many there are.
        top_k: how many are drawn for a token.
        estimator: of the gradient through the draw; its class name or a description will do.
        combine: weight of a drawn expert: its "probabilities", that over the sum of both drawn ones ("renormalized",
            for k up to 2, up to which it is a quadratic function of the draw), or 1 / k ("even"). `SparseMixer` weighs
            its draws itself.
        unimix: share of the even distribution mixed into the probabilities.

    Raises:
        ValueError: when the estimator cannot draw k experts, or `combine` does not serve k.

    Example:
        >>> import torch
        >>> router = Router(experts=8, top_k=2, estimator={"class_path": "TopKReinMax", "init_args": {"size": 2}})
        >>> routing = router(torch.randn(5, 8, requires_grad=True))
        >>> routing.experts.shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        experts: int,
        top_k: int = 1,
        estimator: Estimator | str | dict = "ReinMax",
        combine: Combine = "probabilities",
        unimix: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= top_k < max(experts, 2):
            raise Refusal(f"Router: top_k must be at least 1 and below experts; given {top_k} of {experts}")
        if combine not in ("probabilities", "renormalized", "even"):
            raise Refusal(f"Router: combine must be probabilities, renormalized or even; given {combine!r}")
        if combine == "renormalized" and top_k > 2:
            raise Refusal(
                f"Router: renormalized weights of {top_k} experts are no quadratic function of the draw, so that no "
                "estimator here has their gradient; probabilities and even serve any top_k"
            )
        mix(torch.zeros(1), unimix)
        self.experts, self.top_k, self.combine, self.unimix = experts, top_k, combine, unimix
        self.estimator: Estimator = create(estimator, Estimator)
        self._check_estimator()

    def _check_estimator(self) -> None:
        name, k = type(self.estimator).__name__, self.top_k
        if not isinstance(self.estimator, Sampler) and type(self.estimator).act is Estimator.act:
            raise Refusal(
                f"Router: {name} neither draws differentiably nor takes costs later; ReinMax, SparseMixer and "
                "LeaveOneOut do"
            )
        gate = isinstance(self.estimator, TopKGate)
        sized = gate or isinstance(self.estimator, TopKSubset)
        size = getattr(self.estimator, "size", 1) if sized else 1
        if size != k and not (size == 1 and isinstance(self.estimator, SparseMixer)):
            others = f"TopKReinMax(size={k}) draws subsets, SparseMixer one expert after another"
            raise Refusal(
                f"Router: {name} {'takes' if gate else 'draws'} {size} of the experts, top_k is {k}; "
                f"{f'give {name}(size={k})' if sized else others}"
            )
        if gate and self.combine != "probabilities":
            raise Refusal(
                f"Router: {name} learns by the probabilities that weigh the chosen experts: combine must be "
                f"probabilities; given {self.combine}"
            )
        if not (self.estimator.hard or size > 1 or gate or isinstance(self.estimator, SparseMixer)):
            raise Refusal(
                f"Router: {in_words(self.estimator)} hands f relaxed draws, which give all experts a weight; "
                "StraightThroughGumbelSoftmax draws one"
            )

    def forward(self, logits: Tensor, mask: Tensor | None = None) -> Routing:
        """Routes the tokens; masked ones get no expert and count nowhere.

        Args:
            logits: `[*batch, experts]`.
            mask: which tokens there are `[*batch]`; all unless given.

        Raises:
            ValueError: when the shapes are not as above, or a token has fewer than k experts that are not masked by
                -inf.
        """
        if logits.shape[-1] != self.experts or (mask is not None and mask.shape != logits.shape[:-1]):
            given = f"{list(logits.shape)}" + ("" if mask is None else f" and {list(mask.shape)}")
            raise Refusal(f"Router needs logits [*batch, {self.experts}] and a mask [*batch]; given {given}")
        there = torch.ones_like(logits[..., 0], dtype=torch.bool) if mask is None else mask.bool()
        # what padding holds, NaN perhaps, goes before anything is made of it
        mixed = mix(torch.where(there.unsqueeze(-1), logits, 0), self.unimix)
        self._check_left(mixed)
        z, credit = self._draw(mixed, there)
        p = softmax(mixed)
        chosen = z.detach().topk(self.top_k, dim=-1).indices
        weights = torch.where(there.unsqueeze(-1), self.weigh(z, p.to(logits.dtype)), 0)
        load, balance = self._balance(chosen, p, there)
        experts = chosen.masked_fill(~there.unsqueeze(-1), -1)
        routing = Routing(weights, experts, balance.to(logits.dtype), load.to(logits.dtype), credit)
        unseen = torch.compiler.is_compiling() or draws_are_replaced()
        if self.training and not unseen and self.estimator.needs_slopes == "all":
            routing.slopes = type(self.estimator).__name__
        return routing

    def _check_left(self, logits: Tensor) -> None:
        if self.top_k == 1 or not self.estimator.validates(logits):
            return
        fewest = int((logits > float("-inf")).sum(dim=-1).amin()) if logits.numel() else self.top_k
        if fewest < self.top_k:
            raise Refusal(f"Router draws {self.top_k} experts a token; a token has {fewest} that are not masked (-inf)")

    def _draw(self, logits: Tensor, there: Tensor) -> tuple[Tensor, Credit | None]:
        """Draws `[*batch, experts]` with k entries that are not zero."""
        differentiates = isinstance(self.estimator, Sampler)
        if not (self.training or draws_are_replaced()):
            z = self._likeliest(logits)
            index = z.argmax(dim=-1, keepdim=True)
            return z, None if differentiates else Credit(logits.unsqueeze(-2), index, nothing).among(there)
        if not differentiates:
            z, credit = self.estimator.act(logits.unsqueeze(-2))
            return z.squeeze(-2), credit.among(there)
        rows = logits[there].unsqueeze(-2)  # tokens that are not there teach the estimator nothing
        self.estimator.check(rows)
        z = self._one_after_another(rows) if self._in_turn() else drawn(self.estimator, rows)
        nothing_drawn = torch.zeros_like(logits).reshape(-1, self.experts)
        filled = nothing_drawn.index_put((there.reshape(-1),), z.squeeze(-2).to(logits.dtype))
        return filled.reshape(logits.shape), None

    def _likeliest(self, logits: Tensor) -> Tensor:
        """The k likeliest experts, those of `SparseMixer` in turn and weighed as its draws are."""
        if not isinstance(self.estimator, SparseMixer):
            return top(logits, self.top_k).to(logits.dtype)
        total, left = torch.zeros_like(logits), logits
        for _ in range(self.top_k):
            p = softmax(self.estimator.masked(left))
            z = top(p, 1)
            total, left = total + (z * p).to(logits.dtype), left.masked_fill(z != 0, float("-inf"))
        return total

    def _in_turn(self) -> bool:
        return self.top_k > 1 and isinstance(self.estimator, SparseMixer)

    def _one_after_another(self, rows: Tensor) -> Tensor:
        """Draws without replacement: an expert that was drawn is masked for the next draw."""
        total, left = torch.zeros_like(rows), rows
        for _ in range(self.top_k):
            z = drawn(self.estimator, left)  # pyright: ignore[reportArgumentType]
            total, left = total + z, left.masked_fill(z.detach() != 0, float("-inf"))
        return total

    @property
    def weighs_by_probability(self) -> bool:
        """Whether the weight of a drawn expert is its probability: else, of a single one, it is 1."""
        return self.combine == "probabilities" or isinstance(self.estimator, SparseMixer)

    def weigh(self, z: Tensor, p: Tensor) -> Tensor:
        """Returns the weights of the experts, given draws z and probabilities p, all `[*batch, experts]`."""
        if isinstance(self.estimator, SparseMixer):
            return z
        if self.combine == "probabilities":
            return z * p
        if self.combine == "even" or self.top_k == 1:
            return z / self.top_k
        # z_i sum_j z_j p_i / (p_i + p_j) over j other than i: the weights of pairs, multilinear in z, for which the
        # quotient of sums would not have the gradient that expectations have
        share = p.unsqueeze(-1) / (p.unsqueeze(-1) + p.unsqueeze(-2)).clamp(min=torch.finfo(p.dtype).tiny)
        itself = torch.eye(self.experts, dtype=torch.bool, device=p.device)
        return z * (share.masked_fill(itself, 0) * z.unsqueeze(-2)).sum(dim=-1)

    def _balance(self, chosen: Tensor, p: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """The load `[experts]` and experts * sum_e load_e * mean p_e, over the tokens that are there."""
        count = there.sum().clamp(min=1)
        hits = torch.zeros_like(p).scatter(-1, chosen, 1) * there.unsqueeze(-1)
        load = hits.reshape(-1, self.experts).sum(dim=0) / (count * self.top_k)
        mean = (p * there.unsqueeze(-1)).reshape(-1, self.experts).sum(dim=0) / count
        return load, self.experts * (load * mean).sum()
