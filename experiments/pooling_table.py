"""Prints bias and variance in a digits autoencoder as it trains, as CSV: `python experiments/pooling_table.py --help`.

`python experiments/pooling_table.py > docs/results/pooling.csv` makes the file of its page anew.

One autoencoder trains with `ILSNewton`. At each mark its weights are held; every estimator learns from 60 batches of
100 images, and is then drawn many times for 100 images. Printed is the gradient that reaches the encoder's weights,
averaged over the batch: squared bias and variance, relative to the square of the exact gradient, which is summed over
all codes, and the cosine of the mean estimate with it.
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from ils_lightning.data import Digits
from ils_lightning.estimators import Estimator, Exact, ILSDiagonal, ILSJoint, ILSNewton, ReinMax, StraightThrough
from ils_lightning.modules import DiscreteVAE

MAKE: dict[str, Callable[[], Estimator]] = {
    "StraightThrough": StraightThrough,
    "ReinMax": ReinMax,
    "ILSDiagonal": ILSDiagonal,
    "ILSNewton(base=0)": lambda: ILSNewton(base=0.0),
    "ILSNewton": lambda: ILSNewton(),
    "ILSNewton(base=.7)": lambda: ILSNewton(base=0.7),
    "ILSJoint(base=0)": lambda: ILSJoint(base=0.0),
    "ILSJoint": lambda: ILSJoint(),
    "ILSJoint(base=1)": lambda: ILSJoint(base=1.0),
}
BATCH, WARM = 100, 60


def batch(images: Tensor) -> Tensor:
    """Images drawn without replacement `[BATCH, *image]`."""
    return images[torch.randperm(len(images))[:BATCH]]


def train(model: DiscreteVAE, images: Tensor, epochs: int) -> None:
    """Trains the model in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for _ in range(epochs):
        for x in images[torch.randperm(len(images))].split(BATCH):
            optimizer.zero_grad()
            model.objective(x).loss.backward()
            optimizer.step()


def encoder_gradient(model: DiscreteVAE, logits: Tensor, estimate: Tensor) -> Tensor:
    """The gradient at the encoder's weights that the estimate at the logits `[*batch, latents, categories]` gives."""
    parameters = list(model.encoder.parameters())
    found = torch.autograd.grad(logits, parameters, estimate / len(logits), retain_graph=True)
    return torch.cat([x.flatten() for x in found]).double()


def exact_gradient(model: DiscreteVAE, x: Tensor) -> Tensor:
    """The exact gradient at the encoder's weights."""
    logits = model.encoder(x)
    with torch.no_grad():
        estimate = Exact(chunk=1024).estimate(logits.detach(), model.reconstruction_loss(x))[1]
    return encoder_gradient(model, logits, estimate)


def spread(model: DiscreteVAE, x: Tensor, estimator: Estimator, exact: Tensor, draws: int) -> tuple[float, ...]:
    """Squared bias and variance of the encoder's gradient, relative to the exact one's square, and the cosine."""
    logits, f = model.encoder(x), model.reconstruction_loss(x)
    estimator.eval()
    drawn = torch.stack(
        [encoder_gradient(model, logits, estimator.estimate(logits.detach(), f)[1]) for _ in range(draws)]
    )
    estimator.train()
    mean, variance, square = drawn.mean(dim=0), drawn.var(dim=0).sum(), exact.square().sum()
    bias = (mean - exact).square().sum() - variance / draws
    cosine = nn.functional.cosine_similarity(mean, exact, dim=0)
    return (bias / square).item(), (variance / square).item(), cosine.item()


def learnt(model: DiscreteVAE, images: Tensor, make: Callable[[], Estimator]) -> Estimator:
    """An estimator that has learnt from `WARM` batches at the model's present weights."""
    torch.manual_seed(1)
    estimator = make()
    for _ in range(WARM):
        known = batch(images)
        estimator.estimate(model.encoder(known).detach(), model.reconstruction_loss(known))
    return estimator


def main(
    epochs: list[int] = [1, 20, 60, 200],  # noqa: B006
    latents: int = 6,
    categories: int = 4,
    draws: int = 200,
    seed: int = 0,
) -> None:
    """Prints a line for every mark and estimator.

    Args:
        epochs: marks at which training is interrupted.
        latents: of the code; categories ** latents codes are summed over.
        categories: of each latent.
        draws: estimates behind a mean and a variance.
        seed: of weights, batches and draws.
    """
    torch.manual_seed(seed)
    data = Digits(validation=0)
    data.setup("fit")
    images = torch.cat([images.x for images in data.train_dataloader()])
    model = DiscreteVAE(ILSNewton(), latents=latents, categories=categories, image_shape=[1, 8, 8])
    model.decoder.set_output_bias(model.likelihood.output_bias(data.pixel_mean))
    print("epoch,estimator,squared_bias,variance,cosine")
    for before, epoch in zip([0, *epochs], epochs, strict=False):
        train(model, images, epoch - before)
        x = batch(images)
        exact = exact_gradient(model, x)
        for name, make in MAKE.items():
            bias, variance, cosine = spread(model, x, learnt(model, images, make), exact, draws)
            print(f"{epoch},{name},{bias:.4f},{variance:.4f},{cosine:.4f}", flush=True)


if __name__ == "__main__":
    auto_cli(main)
