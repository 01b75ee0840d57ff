"""Whether a table measures what was trained: `python experiments/trained_and_tested.py [SEEDS]`, two minutes a seed.

Estimators whose draws do not follow softmax(logits), and ReinMax, train the VAE of the digits with 4 latents of 4
categories for 60 epochs. Beside the -ELBO of the last epoch's steps stands what `test` finds on the same training
images and on the test images, in nats, means over seeds. The first two must agree; what is between the training and the
test images is generalisation.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable

from lightning import Trainer, seed_everything
from rich.console import Console
from torch.optim import Adam

from ils_lightning.data import Digits
from ils_lightning.estimators import (
    DecoupledStraightThroughGumbelSoftmax,
    EntmaxMarginal,
    Estimator,
    ReinMax,
    SparsemaxMarginal,
    TopKSubset,
)
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP
from ils_lightning.tables import on_screen

ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "ReinMax": ReinMax,
    "SparsemaxMarginal": SparsemaxMarginal,
    "EntmaxMarginal": EntmaxMarginal,
    "TopKSubset(2)": lambda: TopKSubset(size=2),
    "Decoupled(2, 1)": lambda: DecoupledStraightThroughGumbelSoftmax(forward_temperature=2.0),
}
EPOCHS = 60


def measured(make: Callable[[], Estimator], seed: int, epochs: int = EPOCHS) -> tuple[float, float, float]:
    """-ELBO in the last epoch's steps; by `test`, of the training images and of the test images."""
    seed_everything(seed, verbose=False)
    model = DiscreteVAE(
        make(),
        latents=4,
        categories=4,
        encoder=MLP([128]),
        decoder=MLP([128]),
        image_shape=[1, 8, 8],
        bias_from_data=False,
        optimizer=lambda parameters: Adam(parameters, lr=0.001),
    )
    data = Digits(batch_size=100, validation=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
        _, curve = model.curve()
        (on_test,) = trainer.test(model, datamodule=data, verbose=False)
        (on_train,) = trainer.test(model, dataloaders=data.train_dataloader(), verbose=False)
    return float(curve[-1]), on_train["test/loss"], on_test["test/loss"]


def main(seeds: int) -> None:
    """Prints the table."""
    table = on_screen(f"-ELBO in nats after {EPOCHS} epochs, mean of {seeds} seeds")
    headings = ["estimator", "last epoch's steps", "training images, tested", "test images", "trained - tested"]
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for name, make in ESTIMATORS.items():
        found = [measured(make, seed) for seed in range(seeds)]
        steps, train, test = (statistics.fmean(one) for one in zip(*found, strict=True))
        table.add_row(name, f"{steps:.2f}", f"{train:.2f}", f"{test:.2f}", f"{steps - train:+.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
