"""The primitives every estimator is written with: softmax, exact draws, log-probabilities and Gumbel noise.

All functions work on the last axis (`categories`) of tensors `[*batch, latents, categories]`. A category is masked by a
logit of -inf: its probability is zero, it is never drawn and its gradient is zero. Noise comes from `torch.rand` alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_FEW = 16  # below this many categories CPU loops along the last axis cost 2 to 20 times those along the first
_TINY = 512  # fewer numbers than this are not worth a change of layout
_NARROW = 64  # below this many a one-hot vector is copied from a table
_MANY = 256  # from here on a draw looks at sums of blocks first
_COUNTED = 256  # up to this many sums, comparing with all is faster than a search, whose branches cannot be foreseen
_BELOW_ONE = 1 - 2**-52  # u times a total times this is below the total, however it is rounded


transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether a transform of torch.func (vmap, grad) is at work."""


def plain_call() -> bool:
    """Whether Python calls torch as it stands: neither traced by torch.compile nor transformed by torch.func."""
    return not (torch.compiler.is_compiling() or transformed())


def readable(x: Tensor) -> bool:
    """Whether Python may look at values of `x` and branch: on a CPU, in a plain call."""
    return x.device.type == "cpu" and plain_call()


def are_logits(x: Any) -> bool:
    """Whether this is a floating-point tensor `[*batch, latents, categories]`, with one of both at least."""
    return isinstance(x, Tensor) and x.dim() >= 2 and x.is_floating_point() and 0 not in x.shape[-2:]


def broken_rows(logits: Tensor) -> str:
    """Says what is wrong with the first row that has no finite maximum."""
    top = logits.detach().amax(dim=-1)
    row = (~torch.isfinite(top)).nonzero()[0].tolist()
    worst = top[tuple(row)].item()
    cause = {float("-inf"): "all categories masked (-inf)", float("inf"): "+inf"}.get(worst, "NaN")
    return f"row {row} has {cause}"


def kind(x: Any) -> str:
    """What something is, for messages: dtype and shape of a tensor, the type of anything else.

    Example:
        >>> kind(torch.zeros(2, 3)), kind([1, 2])
        ('float32 [2, 3]', 'list')
    """
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def softmax(logits: Tensor) -> Tensor:
    """Probabilities `[..., categories]`, in float32 at least, differentiable, exactly zero where the logit is -inf."""
    return _along_categories(torch.softmax, logits)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities `[..., categories]`, in float32 at least, -inf at masked categories."""
    return _along_categories(torch.log_softmax, logits)


def _along_categories(function: Callable[..., Tensor], logits: Tensor) -> Tensor:
    """Applies a function of torch along the last axis, on a CPU by way of the layout in which it is fast."""
    return _laid_out(function, logits).contiguous()


def _laid_out(function: Callable[..., Tensor], logits: Tensor) -> Tensor:
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.shape[-1] >= _FEW or not readable(logits) or logits.numel() < _TINY:
        return function(logits, dim=-1)
    return function(logits.movedim(-1, 0).contiguous(), dim=0).movedim(0, -1)


def probabilities(logits: Tensor) -> Tensor:
    """`softmax`, on a CPU in the layout in which formulas with it are fast: few categories lie apart in memory."""
    return _laid_out(torch.softmax, logits)


def difference(pi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`x - y`, new, in the layout of `pi` `[..., categories]`; x and y broadcast to its shape."""
    return torch.sub(x, y, out=torch.empty_like(pi))


def plain(x: Tensor) -> Tensor:
    """Memory of the usual layout for the last step of a formula: `x` itself where it has it, else new."""
    return x if x.is_contiguous() else torch.empty(x.shape, dtype=x.dtype, device=x.device)


def beside(pi: Tensor, x: Tensor) -> Tensor:
    """`x` in the dtype of `pi`, and in its layout where that is not the usual one; both `[..., categories]`."""
    return x.to(pi.dtype) if pi.is_contiguous() else torch.empty_like(pi).copy_(x)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """One-hot vectors `[..., categories]` of `index` `[...]`, with the size, dtype and device of `like`."""
    categories = like.shape[-1]
    if torch.compiler.is_compiling():  # one loop, and the same one for any number of rows
        return (index.unsqueeze(-1) == torch.arange(categories, device=like.device)).to(like.dtype)
    if categories < _NARROW and index.numel() * categories >= _TINY:
        vertices = torch.eye(categories, dtype=like.dtype, device=like.device)
        return vertices.index_select(0, index.flatten()).reshape(*index.shape, categories)
    zeros = torch.zeros(*index.shape, categories, dtype=like.dtype, device=like.device)
    return put_ones(zeros, index.unsqueeze(-1))


def put_ones(x: Tensor, index: Tensor) -> Tensor:
    """Puts ones into `x` `[..., categories]` at `index` `[..., 1]`: in place, save for torch.func, which has no way."""
    return x.scatter(-1, index, 1) if transformed() else x.scatter_(-1, index, 1)


def draw_index(pi: Tensor, samples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draws categories from `pi` `[..., categories]` by inverting its cumulative sum: one uniform a row.

    Sums run in float64, so that small categories survive at any number of categories, and the uniform is scaled by the
    row's own total, so that rows need not sum to one exactly. A category of probability zero is never drawn. Many
    categories are taken in blocks: a block first, then one of its categories by where in the block the uniform fell.

    Args:
        pi: probabilities, or any non-negative weights.
        samples: draws a row; they share the cumulative sum. None draws once, without a leading axis.
        generator: source of the uniforms; torch's global one by default.

    Returns:
        Indices `[...]`, or `[samples, ...]`.

    Example:
        >>> import torch
        >>> draw_index(torch.tensor([0.0, 1.0, 0.0]), samples=3)
        tensor([1, 1, 1])
    """
    pi = pi.detach()
    if samples is None:
        return index_at(pi, uniform(pi.shape[:-1], pi.device, generator))
    return _inverted(pi, uniform((*pi.shape[:-1], samples), pi.device, generator)).movedim(-1, 0)


def index_at(pi: Tensor, u: Tensor) -> Tensor:
    """The categories `[...]` of `pi` `[..., categories]` in whose share of the interval [0, 1] each u `[...]` falls.

    Example:
        >>> import torch
        >>> index_at(torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]), torch.tensor([0.1, 0.6]))
        tensor([0, 1])
    """
    return _inverted(pi.detach(), u.unsqueeze(-1)).squeeze(-1)


def _inverted(pi: Tensor, u: Tensor) -> Tensor:
    """The category at each u `[..., samples]`."""
    return _invert_by_blocks(pi, u) if _in_blocks(u.shape[-1], pi.shape[-1]) else _find(*_placed(pi, u))


def uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Uniform noise in float64."""
    if generator is None:  # compiled programs of varying sizes do not take it, not even as None
        return torch.rand(shape, dtype=torch.float64, device=device)
    return torch.rand(shape, dtype=torch.float64, device=device, generator=generator)


def latin_hypercube(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform noise `[*any, samples, latents]` in float64: of each latent one number in each of `samples` bins.

    Bins are of equal width and shuffled by each latent for itself, so that the numbers of one sample are independent.

    Source: McKay, Beckman and Conover, 1979 (10.2307/1268522).

    Example:
        >>> import torch
        >>> u = latin_hypercube((4, 3), torch.device("cpu"))
        >>> (4 * u).long().sort(dim=0).values.T.tolist()
        [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    """
    bins = uniform(shape, device).argsort(dim=-2)
    return (bins + uniform(shape, device)) / shape[-2]


def _placed(weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative sums of `weights` `[..., categories]` in float64, and u `[..., samples]` in [0, 1) times the total."""
    weights = weights.to(torch.float64, copy=True)
    cumulative = weights.cumsum_(dim=-1) if readable(weights) else _cumulative(weights)
    return cumulative, u * (cumulative.narrow(-1, -1, 1) * _BELOW_ONE)


def _cumulative(weights: Tensor) -> Tensor:
    """Sums along the last axis; on the host where CUDA, whose floating-point cumsum is none, must be deterministic."""
    if weights.is_cuda and torch.are_deterministic_algorithms_enabled():
        return weights.cpu().cumsum(dim=-1).to(weights.device)
    return weights.cumsum(dim=-1)


def _find(cumulative: Tensor, place: Tensor) -> Tensor:
    """The category at each place `[..., samples]`; overwrites the cumulative sums `[..., categories]`."""
    if place.shape[-1] > 1 or cumulative.shape[-1] > _COUNTED:
        return torch.searchsorted(cumulative.contiguous(), place, right=True)
    passed = cumulative.le_(place) if readable(cumulative) else cumulative <= place
    return passed.sum(dim=-1, keepdim=True).long()


def _padded(weights: Tensor, size: int) -> Tensor:
    """The weights with zeros after them, to a multiple of `size`; padding by nothing would copy them."""
    missing = -weights.shape[-1] % size
    return functional.pad(weights, (0, missing)) if missing else weights


def _in_blocks(samples: int, categories: int) -> bool:
    """Whether the blocks looked into are fewer than all categories, where these are many."""
    return categories >= _MANY and samples * _block_size(categories) <= categories


def _block_size(categories: int) -> int:
    """A power of two near the square root."""
    return 2 ** ((int(categories).bit_length() + 1) // 2)


def _invert_by_blocks(weights: Tensor, u: Tensor) -> Tensor:
    """The category at each u, found in two steps: most of the work is one sum over all weights.

    Where u fell in its block's share is a uniform again, and finds the category in the block.
    """
    size = _block_size(weights.shape[-1])
    blocks = _padded(weights, size).unflatten(-1, (-1, size))
    sums = blocks.sum(dim=-1)
    cumulative, place = _placed(sums, u)
    number = _find(cumulative.clone(), place)
    u = 1 - (cumulative.gather(-1, number) - place) / sums.gather(-1, number)
    rows = blocks.reshape(-1, size)
    first = torch.arange(0, len(rows), blocks.shape[-2], device=weights.device).view(*u.shape[:-1], 1)
    chosen = rows.index_select(0, (first + number).view(-1)).view(*u.shape, size)
    return _find(*_placed(chosen, u.unsqueeze(-1))).squeeze(-1).add(number, alpha=size)


def draw(pi: Tensor, samples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draws one-hot vectors `[*batch, latents, categories]` (or `[samples, ...]`) from `pi`; see `draw_index`."""
    return one_hot(draw_index(pi, samples, generator), pi)


def log_prob(logits: Tensor, z: Tensor) -> Tensor:
    """Log-probability of `z` `[..., categories]` summed over categories: `[...]`; linear in z, relaxed or not.

    -inf where z has weight on a masked category; the slope in a masked category that has none is zero.
    """
    log_pi = log_softmax(logits)
    masked = log_pi == float("-inf")
    total = (z * log_pi.masked_fill(masked, 0)).sum(dim=-1)
    return total.masked_fill((masked & (z != 0)).any(dim=-1), float("-inf"))


def top(logits: Tensor, ones: int = 1) -> Tensor:
    """Vectors `[..., categories]` with ones at the largest logits, in float32 at least."""
    like = logits.detach().float() if logits.element_size() < 4 else logits.detach()
    return torch.zeros_like(like).scatter_(-1, like.topk(ones, dim=-1).indices, 1)


def indices(z: Tensor, ones: int = 1) -> Tensor:
    """The categories of vectors `[..., categories]` of zeros and ones: `[...]`, or `[..., ones]` in rising order."""
    return z.argmax(dim=-1) if ones == 1 else z.topk(ones, dim=-1).indices.sort(dim=-1).values


def exponential(like: Tensor) -> Tensor:
    """Standard exponential noise of the shape, dtype and device of `like`: positive and finite in every draw."""
    u = torch.rand(like.shape, dtype=like.dtype, device=like.device)
    noise, highest = (-u).log1p_(), -torch.finfo(like.dtype).tiny
    return (noise.clamp(max=highest) if transformed() else noise.clamp_(max=highest)).neg_()


def gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape, dtype and device of `like`: finite in every draw."""
    return exponential(like).log_().neg_()


def gaussian(like: Tensor) -> Tensor:
    """Standard normal noise of the shape, dtype and device of `like`: finite in every draw."""
    u = torch.rand(like.shape, dtype=like.dtype, device=like.device)
    edge = torch.finfo(like.dtype).eps / 2
    return torch.erfinv((2 * u - 1).clamp(min=edge - 1, max=1 - edge)) * 2**0.5


def conditional_gumbel(logits: Tensor, z: Tensor) -> Tensor:
    """Draws the perturbed logits `logits + Gumbel` given that their argmax is the drawn category of `z`.

    With Z = sum exp(logits) and E standard exponential: drawn category -log E_k + log Z, the others
    -log(E_j / exp(logits_j) + E_k / Z). Differentiable in the logits with the noise held fixed.

    Source: Maddison, Tarlow and Minka, 2014 (1411.0030); Tucker et al., 2017 (1703.07370).
    """
    noise = exponential(logits)
    masked = logits == float("-inf")
    log_total = torch.logsumexp(logits, dim=-1, keepdim=True)
    top = log_total - torch.log((z * noise).sum(dim=-1, keepdim=True))
    # softplus, not logaddexp: its second derivative, which REBAR needs, is finite at any distance of the logits
    gap = torch.log(noise) - logits.masked_fill(masked, 0) + top
    others = top - functional.softplus(gap, threshold=40)
    return torch.where(z > 0, top, others).masked_fill(masked, float("-inf"))


def jacobian(q: Tensor, v: Tensor) -> Tensor:
    """J(q) v = q * (v - q.v): what softmax's Jacobian at probabilities `q` does to a vector `v` `[..., categories]`."""
    weighted = q * v
    total = weighted.sum(dim=-1, keepdim=True)
    return weighted - q * total if transformed() else weighted.addcmul_(q, total, value=-1)


def enumerate_states(latents: int, categories: int, like: Tensor) -> Tensor:
    """All one-hot configurations `[categories ** latents, latents, categories]`, the last latent varying fastest."""
    grid = torch.cartesian_prod(*[torch.arange(categories, device=like.device)] * latents)
    return one_hot(grid.reshape(-1, latents), like)


def entropy(pi: Tensor) -> Tensor:
    """Entropy in nats of the rows of `pi` `[..., categories]`: `[...]`; its slope where pi is zero counts as zero."""
    return torch.special.entr(pi.masked_fill(pi == 0, 1)).sum(dim=-1)
