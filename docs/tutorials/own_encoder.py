# %% [markdown]
# # Bring your own encoder
#
# Two ordinary networks with a discrete code between them, in a LightningModule. The estimator is an argument of it,
# so that a word switches it. As a script: `python -m ils_lightning.tutorials.own_encoder`.

# %%
import logging
import warnings

import torch
from lightning import Trainer, seed_everything
from torch import nn
from torch.optim import Adam

from ils_lightning import plots
from ils_lightning.data import Digits
from ils_lightning.modules import DiscreteModule, Problem

# %matplotlib inline
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning asks torch for a name it is about to lose
warnings.filterwarnings("ignore", ".*does not have many workers.*")

# %% [markdown]
# ## The networks
#
# The encoder turns images into logits, `[batch, latents, categories]`. The decoder takes one-hot draws with one axis
# more in front, `[samples, batch, latents, categories]`; layers that work on the last axes do not mind.

# %%
CODE = (6, 8)  # latents, categories


def encoder():
    maps = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)  # 16 of 4 x 4
    return nn.Sequential(maps, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 4 * 4, 6 * 8), nn.Unflatten(-1, CODE))


def decoder():
    hidden = nn.Flatten(-2), nn.Linear(6 * 8, 64), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(64, 64), nn.Unflatten(-1, (1, 8, 8)))


encoder()(torch.rand(100, 1, 8, 8)).shape

# %% [markdown]
# ## The model
#
# `problem` says what is drawn and what it costs. One line of `training_step` trains both networks: the decoder gets
# the gradient of the loss, the encoder the estimate. `DiscreteModule` brings optimiser and checkpoints.


# %%
class Autoencoder(DiscreteModule):
    """Learns codes from which the decoder can tell the image."""

    def __init__(self, estimator):
        super().__init__(estimator, lambda parameters: Adam(parameters, lr=0.003))
        self.encoder, self.decoder = encoder(), decoder()
        self.estimator.build(*CODE)  # what it learns of a problem of this size, where it learns

    def problem(self, batch):
        return Problem(self.encoder(batch.x), lambda z: (self.decoder(z) - batch.x).square().sum(dim=(-3, -2, -1)))

    def training_step(self, batch):
        logits, f, _ = self.problem(batch)
        return self.estimator(logits, f).mean()

    def validation_step(self, batch):
        logits, f, _ = self.problem(batch)
        self.log("val/loss", self.estimator.value(logits, f).mean())  # exact draws, alike for every estimator


# %% [markdown]
# ## Train it with three estimators
#
# An estimator is given by its name or as an object.

# %%
models = {}
for name in ("StraightThrough", "ReinMax", "LeaveOneOut"):
    seed_everything(0, verbose=False)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(max_epochs=15, accelerator="cpu", **quiet)
    models[name] = Autoencoder(estimator=name)
    trainer.fit(models[name], datamodule=Digits(binarize="none"))
    print(f"{name}: squared error {trainer.callback_metrics['val/loss']:.2f} on validation")

# %% [markdown]
# ## What comes through the code
#
# Eighteen bits an image: six letters of an alphabet of eight. Here each letter is the most probable one.

# %%
data = Digits(binarize="none")
data.setup("fit")
images = next(iter(data.val_dataloader())).x[:12]
rows = [images]
with torch.no_grad():
    for model in models.values():
        codes = model.encoder(images).argmax(dim=-1)  # [12, 6]
        rows.append(model.decoder(nn.functional.one_hot(codes, 8).float()))
plots.image_grid(torch.stack(rows), "digits, and what the decoders see of them", row_labels=["image", *models])

# %% [markdown]
# The letters of the first three images, by the model that was trained last:

# %%
codes[:3]

# %% [markdown]
# From the shell, with logs and checkpoints: `python -m ils_lightning fit --model
# ils_lightning.tutorials.own_encoder.Autoencoder --model.estimator ReinMax --data Digits`. Next: [read a
# report](read_report.md) on this model.
