"""Prints what learning from fewer steps costs: `python experiments/seldom_table.py --help`.

One digits autoencoder trains with `ILSJoint`. Members that learn from one step in so many see the logits and losses of
every step, each with draws of its own. At each mark all are drawn many times for 100 images, with the state they have.
Printed is the gradient that reaches the encoder's weights, averaged over the batch: squared bias and variance, relative
to the square of the exact gradient, which is summed over all codes.
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from pooling_table import BATCH, batch, exact_gradient, spread

from ils_lightning.data import Digits
from ils_lightning.estimators import Estimator, ILSJoint, ILSNewton, ILSTempered, ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.tables import markdown

MAKE: dict[str, Callable[..., Estimator]] = {
    "ILSNewton": ILSNewton,
    "ILSJoint": ILSJoint,
    "ILSTempered(temperature=1)": lambda every: ILSTempered(temperature=1.0, every=every),
}


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
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {key: [] for key in [*beside, ("ReinMax", 1)]}
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
                torch.manual_seed(1)
                found[key].append(spread(model, x, estimator, exact, draws)[:2])
    lines = [
        [f"`{name}`", str(n), *(f"{bias:.4f} / {variance:.3f}" for bias, variance in values)]
        for (name, n), values in found.items()
    ]
    print(markdown(["estimator", "every", *(f"epoch {epoch}" for epoch in epochs)], lines), end="")


if __name__ == "__main__":
    auto_cli(main)
