"""No gradient is silently wrong, whatever the loss does with its draws and whatever is done with the loss."""

from collections.abc import Callable

import pytest
import torch
from examples import EXAMPLES, Example
from simulate import size
from torch import Tensor, nn

from ils_lightning.estimators import Estimator, Sampler
from ils_lightning.testing.laws import gradient

NEEDS = [e for e in EXAMPLES if e.make().needs_gradient]
NEEDS_NOT = [e for e in EXAMPLES if not e.make().needs_gradient]
NAN, INF = float("nan"), float("inf")


def without_grad(z: Tensor, table: Tensor) -> Tensor:
    with torch.no_grad():
        codes = z @ table
    return codes + 0 * table.sum()


CUTS = {
    "index": lambda z, table: table[z.argmax(dim=-1)],
    "detach": lambda z, table: z.detach() @ table,
    "data": lambda z, table: z.data @ table,
    "no_grad": without_grad,
    "constant": lambda z, table: table[torch.zeros(z.shape[:-1], dtype=torch.long)],
    "long": lambda z, table: z.long().to(table) @ table,
    "compare": lambda z, table: (z > 0.5).to(table) @ table,
    "round": lambda z, table: z.round() @ table,
    "sign": lambda z, table: torch.sign(2 * z - 1) @ table,
}


class Tokens(nn.Module):
    """An encoder, codes that `look` takes from a table, and a decoder: everything but z has weights of its own."""

    def __init__(self, estimator: Estimator, look: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.size, self.estimator, self.look = size(estimator), estimator, look
        latents, categories = self.size
        self.encoder = nn.Linear(4, latents * categories)
        self.table = nn.Parameter(torch.randn(categories, 5))
        self.decoder = nn.Linear(5 * latents, 1)

    def f(self, z: Tensor) -> Tensor:
        return self.decoder(self.look(z, self.table).flatten(-2)).squeeze(-1).square()

    def train_once(self) -> Tensor:
        """Returns what the encoder receives."""
        self.zero_grad()
        self.estimator(self.encoder(torch.randn(8, 4)).unflatten(-1, self.size), self.f).mean().backward()
        assert self.encoder.weight.grad is not None
        return self.encoder.weight.grad


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("example", NEEDS, ids=str)
def test_loss_without_gradient_in_z_is_refused_although_it_has_weights(example: Example, cut: str):
    with pytest.raises(ValueError, match=r"needs a loss f that is differentiable in z.*LeaveOneOut"):
        Tokens(example.make(), CUTS[cut]).train_once()


@pytest.mark.parametrize("example", NEEDS_NOT, ids=str)
def test_encoder_learns_from_an_index_where_no_gradient_is_needed(example: Example):
    assert Tokens(example.make(), CUTS["index"]).train_once().abs().max() > 0


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_loss_may_use_a_part_of_z(example: Example):
    """The first latent by its code, the others by their index."""

    def look(z: Tensor, table: Tensor) -> Tensor:
        return torch.cat([z[..., :1, :] @ table, table[z[..., 1:, :].argmax(dim=-1)]], dim=-2)

    assert Tokens(example.make(), look).train_once().abs().max() > 0


@pytest.mark.parametrize("example", [e for e in NEEDS if isinstance(e.make(), Sampler)], ids=str)
def test_loss_that_loses_its_gradient_later_is_refused_by_backward(example: Example):
    model = Tokens(example.make(), lambda z, table: z @ table)
    assert model.train_once().abs().max() > 0
    model.look = CUTS["index"]
    with pytest.raises(ValueError, match="needs a loss f that is differentiable in z"):
        model.train_once()


def write(z: Tensor) -> Tensor:
    z[..., 0] = z[..., 0] * 3
    return z


IN_PLACE = {
    "code": (lambda z: z.mul_(2).sub_(1), lambda z: 2 * z - 1),
    "entry": (write, lambda z: torch.cat([3 * z[..., :1], z[..., 1:]], dim=-1)),
    "mask": (lambda z: z.masked_fill_(row_mask(z), 0), lambda z: z.masked_fill(row_mask(z), 0)),
}
"""Losses' first step, in place and not."""
LEAVES = {"MuProp", "Rebar", "Relax-loss", "ILSResidual", "ILSLeaveOneOut", "DoubleControlVariate", "Rodeo"}
"""Those that differentiate f at a leaf or a softmax, into which torch lets nobody write."""


def row_mask(z: Tensor) -> Tensor:
    """Every second row, if there are rows."""
    rows = torch.arange(z[..., 0, 0].numel()).reshape(z.shape[:-2]) % 2 == 0
    return rows[..., None, None]


@pytest.mark.parametrize("batch", [(4,), (1,), ()], ids=str)
@pytest.mark.parametrize("edit", IN_PLACE)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_loss_that_writes_into_its_draws(example: Example, edit: str, batch: tuple[int, ...]):
    latents, categories = size(example.make())
    logits, w = torch.randn(*batch, latents, categories), torch.randn(latents, categories)
    in_place, plain = (lambda z, g=g: (g(z) * w).sum(dim=(-2, -1)).square() for g in IN_PLACE[edit])
    expected = gradient(example.make(), logits, plain)
    if {example.name, type(example.make()).__name__} & LEAVES - {"Relax"} or example.name == "GumbelSoftmax":
        with pytest.raises(RuntimeError, match=r"in-place|inplace"):
            gradient(example.make(), logits, in_place)
    else:
        torch.testing.assert_close(gradient(example.make(), logits, in_place), expected)
