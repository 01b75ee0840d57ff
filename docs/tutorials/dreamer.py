# %% [markdown]
# # In a Dreamer, in pictures
#
# The [page of the cookbook](../cookbook/dreamer.md) changes one import. Here a small world model of that kind sees a
# digit through a slit, two rows of pixels at a step, and has to remember: after every step it draws the whole digit.

# %%
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.distributions import Independent, kl_divergence

from ils_lightning import plots
from ils_lightning.data import Digits
from ils_lightning.distributions import OneHotCategorical
from ils_lightning.looks import looks

# %matplotlib inline

# %% [markdown]
# ## The model
#
# `OneHotCategorical` stands where ports of DreamerV2 and V3 have
# `torch.distributions.OneHotCategoricalStraightThrough`. The state of a step is a draw of eight letters of an
# alphabet of eight. `unimix` mixes one per cent of the even distribution in.


# %%
class WorldModel(nn.Module):
    def __init__(self, estimator):
        super().__init__()
        self.estimator = estimator
        self.gru = nn.GRUCell(8 * 8, 128)
        self.prior = nn.Sequential(nn.Linear(128, 64), nn.ELU(), nn.Linear(64, 8 * 8))
        self.posterior = nn.Sequential(nn.Linear(128 + 16, 64), nn.ELU(), nn.Linear(64, 8 * 8))
        pixels = nn.Linear(128, 64), nn.Unflatten(-1, (1, 8, 8))
        self.decoder = nn.Sequential(nn.Linear(128 + 8 * 8, 128), nn.ELU(), *pixels)

    def latent(self, x):
        logits = x.unflatten(-1, (8, 8))
        return Independent(OneHotCategorical(logits=logits, estimator=self.estimator, unimix=0.01), 1)

    def forward(self, images):
        """Pictures after each step `[steps, batch, 1, 8, 8]`, and the KL divergences `[steps, batch]`."""
        h, z = images.new_zeros(len(images), 128), images.new_zeros(len(images), 8, 8)
        pictures, divergences = [], []
        for seen in images.flatten(1).split(16, dim=-1):  # two rows of eight pixels
            h = self.gru(z.flatten(-2), h)
            prior, posterior = self.latent(self.prior(h)), self.latent(self.posterior(torch.cat([h, seen], dim=-1)))
            z = posterior.rsample()
            pictures.append(self.decoder(torch.cat([h, z.flatten(-2)], dim=-1)))
            divergences.append(kl_divergence(posterior, prior))
        return torch.stack(pictures), torch.stack(divergences)


# %% [markdown]
# ## Training, with two estimators

# %%
data = Digits(batch_size=100, binarize="none")
data.setup("fit")
models, curves = {}, {}
for name in ("StraightThrough", "ReinMax"):
    torch.manual_seed(0)
    model, curves[name] = WorldModel(name), []
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(40):
        for batch in data.train_dataloader():
            pictures, divergence = model(batch.x)
            wrong = (pictures - batch.x).square().sum(dim=(-3, -2, -1))  # [steps, batch]
            loss = (wrong + 0.1 * divergence.clamp(min=1.0)).mean()
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            curves[name].append(wrong[-1].mean().item())
    models[name] = model

with plots.style():
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, look in looks(curves).items():
        smooth = torch.tensor(curves[name]).unfold(0, 25, 25).mean(dim=-1)
        axes.plot(torch.arange(len(smooth)) * 25, smooth, color=look.colour, label=f"{name}: {smooth[-1]:.2f}")
    axes.set(xlabel="optimiser steps", ylabel="squared error after the last step")
    axes.legend()
figure

# %% [markdown]
# One seed and no tuning: this shows that the import works, not which estimator is better. [Which
# estimator](../which_estimator.md) says how to find out.
#
# ## What it sees, step by step

# %%
batch = next(iter(data.val_dataloader()))
images = batch.x[:10]
with torch.no_grad():
    pictures, _ = models["ReinMax"](images)
labels = ["the digit", *(f"after rows 1 to {2 * step}" for step in range(1, 5))]
plots.image_grid(torch.cat([images.unsqueeze(0), pictures]), "a digit through a slit, ReinMax", row_labels=labels)

# %% [markdown]
# A cell is called step by step, so an estimator that pools over rows sees the steps one after another: `ILSNewton`
# then learns one curvature for all of them, and `Grouped` keeps one a step.
