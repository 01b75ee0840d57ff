"""torch.compile for the networks of a model, by one line of its configuration."""

import torch
import torch._functorch.config
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Rebar, Relax
from ils_lightning.networks import Network


class CompiledNetworks(Callback):
    """Compiles every `Network` of the module in place, such as encoder and decoder.

    Estimator, logs and hooks stay outside, and weights keep their names: checkpoints fit models with this callback and
    without it. Estimators that differentiate the networks twice, which torch.compile does not do, leave them as they
    are, with a note: `Rebar` while it learns, and `Relax` with a relaxed loss.

    Args:
        backend: of torch.compile: "inductor" generates code, and needs a C++ compiler.

    Example:
        >>> CompiledNetworks().backend
        'inductor'
    """

    def __init__(self, backend: str = "inductor") -> None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise Refusal(f"CompiledNetworks: backend must be one of {', '.join(known)}; given {backend!r}")
        self.backend = backend

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compiles; the code is made when a network is first called."""
        twice = [part for part in pl_module.modules() if differentiates_twice(part)]
        if twice:
            rank_zero_info(f"note: networks are not compiled, for {in_words(twice[0])} differentiates them twice")
        else:
            compile_networks(pl_module, self.backend)


def compile_networks(module: nn.Module, backend: str) -> None:
    """Compiles every `Network` inside `module` in place."""
    torch._functorch.config.donated_buffer = False  # estimators call backward through f more than once
    for part in module.modules():
        if isinstance(part, Network):
            part.compile(backend=backend)


def differentiates_twice(part: nn.Module) -> bool:
    """Whether a module is an estimator whose own parameters learn from derivatives of f's derivative."""
    if isinstance(part, Rebar):
        return any(p.requires_grad for p in part.parameters())
    return isinstance(part, Relax) and part.relaxed_loss
