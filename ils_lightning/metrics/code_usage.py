"""How evenly the codes of each latent are used over all draws seen (and over ranks)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ils_lightning.errors import Refusal, require_at_least


class CodeCounts(Metric):
    """Counts of each latent's codes; subclasses write `compute`.

    Args:
        latents: number of latents.
        categories: codes of each.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, latents: int, categories: int) -> None:
        super().__init__()
        require_at_least(1, type(self).__name__, latents=latents, categories=categories)
        self.latents = latents
        self.categories = categories
        self.add_state("counts", torch.zeros(latents, categories, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, z: Tensor) -> None:
        """Adds one-hot draws `[..., latents, categories]`, or the integer codes `[..., latents]` themselves.

        A relaxed draw counts as its largest entry, a set of categories as each of them.

        Raises:
            ValueError: for any other shape, and for codes that do not exist.
        """
        soft = z.is_floating_point()
        wanted = (self.latents, self.categories) if soft else (self.latents,)
        if z.shape[-len(wanted) :] != wanted:
            raise Refusal(
                f"{type(self).__name__} needs floating-point draws [..., latents, categories] or integer codes "
                f"[..., latents], here [..., {', '.join(map(str, wanted))}]; given {z.dtype} {list(z.shape)}"
            )
        if soft:
            self.counts += (z == z.amax(dim=-1, keepdim=True)).reshape(-1, *wanted).sum(dim=0)
            return
        codes = z.long().reshape(-1, self.latents)
        if codes.numel() and not 0 <= codes.amin() <= codes.amax() < self.categories:
            raise Refusal(
                f"{type(self).__name__}: codes must be from 0 to {self.categories - 1}; "
                f"given {codes.amin().item()} to {codes.amax().item()}"
            )
        counts = self.counts.double()  # a model in half precision casts its metrics, too
        self.counts = counts + torch.zeros_like(counts).scatter_add_(1, codes.T, torch.ones_like(codes.T).double())


class Perplexity(CodeCounts):
    """exp of the entropy of a latent's codes over all draws, averaged over latents: from 1 to `categories`.

    Example:
        >>> metric = Perplexity(latents=1, categories=4)
        >>> metric.update(torch.tensor([[0], [3], [0], [3]]))
        >>> metric.compute()
        tensor(2.)
    """

    def compute(self) -> Tensor:
        frequency = self.counts / self.counts.sum(dim=-1, keepdim=True)
        return torch.special.entr(frequency).sum(dim=-1).exp().mean().float()


class CodeUsage(CodeCounts):
    """The share of a latent's codes that were drawn at least once, averaged over latents; masked ones never are.

    Example:
        >>> metric = CodeUsage(latents=1, categories=4)
        >>> metric.update(torch.tensor([[0], [3], [0], [3]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def compute(self) -> Tensor:
        return (self.counts > 0).double().mean().float()


class CodeEntropy(CodeCounts):
    """Entropy of a latent's codes in nats, averaged over latents: log of `categories` where they are used evenly.

    Example:
        >>> metric = CodeEntropy(latents=1, categories=4)
        >>> metric.update(torch.tensor([[0], [3], [0], [3]]))
        >>> metric.compute()
        tensor(0.6931)
    """

    def compute(self) -> Tensor:
        frequency = self.counts / self.counts.sum(dim=-1, keepdim=True)
        return torch.special.entr(frequency).sum(dim=-1).mean().float()
