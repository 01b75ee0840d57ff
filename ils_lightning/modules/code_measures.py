"""What autoencoders with discrete codes are measured by: bounds, their parts, and the use of codes."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torchmetrics import MeanMetric

from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.metrics import ActiveLatents, CodeUsage, ImportanceWeightedBound, NegativeELBO, Perplexity

_LABELS = {
    "loss": ("-ELBO", "{:.2f} nats"),
    "reconstruction": ("-log p(x | z)", "{:.2f} nats"),
    "kl": ("KL", "{:.3f} nats"),
    "iwae": ("-log p(x), {importance_samples}-sample bound", "{:.2f} nats"),
    "perplexity": ("perplexity", "{:.2f} of {categories} codes"),
    "code_usage": ("codes in use", "{:.0%}"),
    "active_latents": ("active latents", "{:.0f} of {latents}"),
    "psnr": ("PSNR of most probable codes", "{:.2f} dB"),
    "nats": ("-ELBO, a prior learnt of the codes", "{:.2f} nats"),
    "code_nats": ("of which for the codes", "{:.2f} nats"),
}


class Evaluation(NamedTuple):
    """What exact draws of the codes of a batch cost, in nats.

    Attributes:
        reconstruction: -log p(x | z), `[draws, batch]`.
        kl: KL terms, `[batch, layers]`: exact, or the mean over draws where a layer is conditioned on draws.
        log_weights: log p(x, z) - log q(z | x), `[draws, batch]`.
        pi: posterior probabilities, `[batch, latents, categories]`; where a layer is conditioned on draws, their mean;
            of sets of categories, those of one of them.
        z: the draws, `[draws, batch, latents, categories]`.
    """

    reconstruction: Tensor
    kl: Tensor
    log_weights: Tensor
    pi: Tensor
    z: Tensor


class CodeMeasures(nn.ModuleDict):
    """The metrics of a stage, by name.

    Args:
        latents: of all layers together.
        categories: of each.
        layers: how many; with several, the KL of each is a metric as well.
    """

    def __init__(self, latents: int, categories: int, layers: int) -> None:
        super().__init__({"loss": NegativeELBO(), "reconstruction": MeanMetric(), "kl": MeanMetric()})
        self.update({"perplexity": Perplexity(latents, categories), "code_usage": CodeUsage(latents, categories)})
        self.update({"active_latents": ActiveLatents(latents, categories), "iwae": ImportanceWeightedBound()})
        self.update({f"kl_layer_{layer + 1}": MeanMetric() for layer in range(layers if layers > 1 else 0)})
        self.latents, self.categories = latents, categories

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        """Moves sums to another device but keeps their precision: bfloat16 counts no further than 256."""
        return super()._apply(lambda state: fn(state).to(state.dtype), *args, **kwargs)

    def add(self, found: Evaluation, draws: int, importance_samples: int) -> None:
        """Adds a batch: -ELBO of the first `draws` draws, and the bound of the first `importance_samples`.

        Codes are counted in one draw an image, so that validation and test compare.
        """
        metrics: Any = self
        reconstruction, kl = found.reconstruction[:draws].mean(dim=0), found.kl.sum(dim=-1)
        metrics["loss"].update(reconstruction, kl)
        metrics["reconstruction"].update(reconstruction)
        metrics["kl"].update(kl)
        metrics["perplexity"].update(found.z[0])
        metrics["code_usage"].update(found.z[0])
        metrics["active_latents"].update(found.pi)
        metrics["iwae"].update(found.log_weights[:importance_samples])
        for layer in range(found.kl.shape[-1]):
            if f"kl_layer_{layer + 1}" in self:
                metrics[f"kl_layer_{layer + 1}"].update(found.kl[:, layer])

    def take(self) -> dict[str, Tensor]:
        """Returns the values over all batches and ranks, and forgets them."""
        metrics: Any = dict(self.items())
        values = {name: metric.compute() for name, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        return values

    def frequencies(self) -> Tensor:
        """How often each code was drawn, over all ranks: `[latents, categories]`, on the CPU."""
        metric: Any = self["code_usage"]
        counts = sum_over_ranks(metric.counts)
        return (counts / counts.sum(dim=-1, keepdim=True)).float().cpu()

    def in_words(self, name: str, value: float, importance_samples: int) -> tuple[str, str]:
        """Returns how to print a metric: what it is, and its value with the unit."""
        layer = name.removeprefix("kl_layer_")
        label, text = _LABELS["kl"] if layer != name else _LABELS.get(name, (name, "{:.4g}"))
        label = label.format(importance_samples=importance_samples) + (f" of layer {layer}" if layer != name else "")
        return label, text.format(value, categories=self.categories, latents=self.latents)
