"""Whether a loss judges each row, and each draw, by itself: found by changing the others and seeing whether it moves.

Rows are numbered in binary. For every digit the rows where it is 1 get other draws, and those where it is 0 must answer
what they did before; then the other way round. Any two rows differ in some digit, so each is tried as cause and as
effect of each other one within 2 log2(rows) evaluations of f.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import draw_index, one_hot, softmax
from ils_lightning.estimators.distribution import Categorical, Distribution
from ils_lightning.estimators.subsets import Subsets

ROWS = (
    "the loss f must be one that judges each row by itself, f(z)[s, b] by z[s, b] alone, but the loss of row {row} "
    "changes with the draws of other rows (negatives from the batch, batch normalisation in training mode, a mean over "
    "the batch do that); state a coupled batch as latents of one row: logits [1, rows * latents, categories]"
)
DRAWS = (
    "the loss f must judge each draw by itself, f(z)[s, b] by z[s, b] alone, but its answer changes with the other "
    "draws beside it (batch normalisation in training mode does that)"
)


class CouplingError(Refusal):
    """A loss that judges rows or draws by each other."""


_FEWEST = 8
"""Evaluations at least for each axis: where rows are few, some changes of them may not show."""


@torch.no_grad()
def check_coupling(f: Callable[[Tensor], Tensor], logits: Tensor, draws: int, ones: int = 1) -> None:
    """Changes some of a few draws of `logits` `[*batch, latents, categories]`, and compares the answers for the others.

    Draws are of one category a latent, or of subsets of `ones`.

    Every evaluation starts from the same state of torch's random numbers, so that noise of f's own (dropout) is the
    same in each. Noise from elsewhere is measured, and a change must go far beyond it to count. The caller's stream of
    random numbers stays as it was.

    Raises:
        CouplingError: when a row's loss changes with the draws of other rows, or with the draws beside it.
    """
    with torch.random.fork_rng(_devices(logits)):
        answer = _repeatable(f, logits)
        pi = softmax(logits.detach())
        z = followed(logits.detach(), ones).draw(draws).to(pi.dtype)
        loss = answer(z)
        allowed = _rounding(loss) + 10 * _moved(loss, answer(z)).nan_to_num().max()
        for numbers, rule in ((_rows(z), ROWS), (_draws(z), DRAWS)):
            for changed in _halves(numbers):
                others = _others(pi, z) if ones == 1 else followed(pi.clamp(0, 0), ones).draw(draws)
                again = answer(torch.where(changed[..., None, None], others, z))
                wrong = (_moved(loss, again) > allowed) & ~changed
                if wrong.any():
                    raise CouplingError(f"{_named(rule, wrong)}; given {loss[wrong][0]:.6g} and {again[wrong][0]:.6g}")


def followed(logits: Tensor, ones: int) -> Distribution:
    """The distribution of draws of one category a latent, or of subsets of `ones`."""
    return Categorical(logits) if ones == 1 else Subsets(logits, ones)


def _devices(logits: Tensor) -> list[torch.device]:
    return [logits.device] if logits.is_cuda else []


def _repeatable(f: Callable[[Tensor], Tensor], logits: Tensor) -> Callable[[Tensor], Tensor]:
    """The same function, which starts from the same random state in every call."""
    state, on_device = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in _devices(logits)]

    def answer(z: Tensor) -> Tensor:
        with torch.random.fork_rng(_devices(logits)):
            torch.set_rng_state(state)
            for device, its_state in zip(_devices(logits), on_device, strict=True):
                torch.cuda.set_rng_state(its_state, device)
            return f(z.to(logits.dtype))

    return answer


def _moved(loss: Tensor, again: Tensor) -> Tensor:
    """Distance of two answers `[samples, *batch]`; none where both are the same infinity, or not a number."""
    first, second = loss.double(), again.double()
    same = (first == second) | (first.isnan() & second.isnan())
    return (first - second).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0)


def _rounding(loss: Tensor) -> Tensor:
    """What a program that orders its sums otherwise may change."""
    eps = torch.finfo(loss.dtype).eps if loss.is_floating_point() else 0.0
    size = loss.double().nan_to_num(0, 0, 0).abs()
    return eps**0.75 * size + 16 * eps * size.max()


def _rows(z: Tensor) -> Tensor:
    """The number of the row at each place `[samples, *batch]`."""
    batch = z.shape[1:-2]
    return torch.arange(batch.numel(), device=z.device).reshape(batch).expand(z.shape[:-2])


def _draws(z: Tensor) -> Tensor:
    """The number of the draw at each place `[samples, *batch]`."""
    return torch.arange(len(z), device=z.device).reshape(-1, *[1] * (z.dim() - 3)).expand(z.shape[:-2])


def _halves(numbers: Tensor) -> Iterator[Tensor]:
    """The places where a binary digit is 1, and those where it is 0, for every digit, and again up to `_FEWEST`."""
    digits = [(numbers >> place & 1).bool() for place in range(int(numbers.max()).bit_length())]
    for _ in range(-(-_FEWEST // max(1, 2 * len(digits)))):
        for ones in digits:
            yield ones
            yield ~ones


def _others(pi: Tensor, z: Tensor) -> Tensor:
    """Draws that differ from `z` in about half of their latents, in one at least, wherever two categories can be drawn.

    All that can be drawn are alike likely, so that rows which are nearly certain change too.
    """
    weights = (pi > 0) * (1 - z)
    key = torch.rand(z.shape[:-1], device=z.device).masked_fill(weights.sum(dim=-1) == 0, 2)
    change = ((key < 0.5) | (key == key.amin(dim=-1, keepdim=True))) & (key < 2)
    index = torch.where(change, draw_index(weights), z.argmax(dim=-1))
    return one_hot(index, z)


def _named(rule: str, wrong: Tensor) -> str:
    _, *row = wrong.nonzero()[0].tolist()
    return rule.format(row=row)
