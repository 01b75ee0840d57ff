"""Prints what learning from fewer steps costs: `python experiments/seldom_table.py --help`.

One digits autoencoder trains with `ILSJoint`. Members that learn from one step in so many see the logits and losses of
every step, each with draws of its own. At each mark all are drawn many times for 100 images, with the state they have.
Printed is the gradient that reaches the encoder's weights, averaged over the batch: squared bias and variance, relative
to the square of the exact gradient, which is summed over all codes.
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from pooling_table import BATCH, batch, encoder_gradient
from torch import Tensor

from ils_lightning.data import Digits
from ils_lightning.estimators import Estimator, Exact, ILSJoint, ILSNewton, ILSTempered, ReinMax
from ils_lightning.modules import DiscreteVAE

MAKE: dict[str, Callable[..., Estimator]] = {
    "ILSNewton": ILSNewton,
    "ILSJoint": ILSJoint,
    "ILSTempered(temperature=1)": lambda every: ILSTempered(temperature=1.0, every=every),
}


def measure(model: DiscreteVAE, x: Tensor, estimator: Estimator, exact: Tensor, draws: int) -> tuple[float, float]:
    """Squared bias and variance of the encoder's gradient, relative to the exact one's square."""
    torch.manual_seed(1)
    logits, f = model.encoder(x), model.reconstruction_loss(x)
    estimator.eval()
    drawn = torch.stack(
        [encoder_gradient(model, logits, estimator.estimate(logits.detach(), f)[1]) for _ in range(draws)]
    )
    estimator.train()
    variance, square = drawn.var(dim=0).sum(), exact.square().sum()
    bias = (drawn.mean(dim=0) - exact).square().sum() - variance / draws
    return (bias / square).item(), (variance / square).item()


def exact_gradient(model: DiscreteVAE, x: Tensor) -> Tensor:
    """The exact gradient at the encoder's weights."""
    logits = model.encoder(x)
    with torch.no_grad():
        estimate = Exact(chunk=1024).estimate(logits.detach(), model.reconstruction_loss(x))[1]
    return encoder_gradient(model, logits, estimate)


def main(
    epochs: list[int] = [3, 10, 30, 60],  # noqa: B006
    every: list[int] = [1, 4, 8, 16],  # noqa: B006
    latents: int = 6,
    categories: int = 4,
    draws: int = 100,
    seed: int = 3,
) -> None:
    """Prints one table: squared bias / variance at each mark.

    Args:
        epochs: marks; the last ends training.
        every: steps of which one is learnt from, in the end.
        latents: of the code; categories ** latents codes are summed over.
        categories: of each latent.
        draws: estimates behind a mean and a variance.
        seed: of weights, batches and draws.
    """
    torch.manual_seed(seed)
    data = Digits(validation=0)
    data.setup("fit")
    images = torch.cat([images.x for images in data.train_dataloader()])
    model = DiscreteVAE(ILSJoint(every=1), latents=latents, categories=categories, image_shape=[1, 8, 8])
    model.decoder.set_output_bias(model.likelihood.output_bias(data.pixel_mean))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    beside = {(name, n): make(every=n) for name, make in MAKE.items() for n in every}
    found: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in [*beside, ("ReinMax", 1)]}
    for epoch in range(1, epochs[-1] + 1):
        for x in images[torch.randperm(len(images))].split(BATCH):
            optimizer.zero_grad()
            model.objective(x).loss.backward()
            optimizer.step()
            logits, f = model.encoder(x).detach(), model.reconstruction_loss(x)
            for estimator in beside.values():
                estimator.estimate(logits, f)
        if epoch in epochs:
            x = batch(images)
            exact = exact_gradient(model, x)
            for key, estimator in (beside | {("ReinMax", 1): ReinMax()}).items():
                found[key].append(measure(model, x, estimator, exact, draws))
    print("| estimator | every | " + " | ".join(f"epoch {epoch}" for epoch in epochs) + " |")
    print("|" + " --- |" * (2 + len(epochs)))
    for (name, n), values in found.items():
        print(f"| `{name}` | {n} | " + " | ".join(f"{bias:.4f} / {variance:.3f}" for bias, variance in values) + " |")


if __name__ == "__main__":
    auto_cli(main)
