# %% [markdown]
# # In place of F.gumbel_softmax, in pictures
#
# The [page of the cookbook](../cookbook/gumbel_softmax.md) changes one line. Here is what that does to the gradients
# and to the training of a small problem.

# %%
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from ils_lightning import plots
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.figure import draw
from ils_lightning.estimators import ILSNewton, ReinMax, StraightThroughGumbelSoftmax
from ils_lightning.functional import gumbel_softmax, sample

# %matplotlib inline

# %% [markdown]
# Two switches with three positions each. Every position has a cost, and what is paid is the square of the sum: the
# switches meet in one loss. The best positions are the first of one switch and the second of the other.

# %%
cost = torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.5, 1.0]])


def paid(z):  # [..., switches, positions]
    return (z * cost).sum(dim=(-2, -1)).square()


# %% [markdown]
# ## The line that changes

# %%
draws = {
    "F.gumbel_softmax, tau 0.5": lambda logits: F.gumbel_softmax(logits, tau=0.5, hard=True),
    "F.gumbel_softmax, tau 0.1": lambda logits: F.gumbel_softmax(logits, tau=0.1, hard=True),
    "gumbel_softmax, tau 0.5": lambda logits: gumbel_softmax(logits, tau=0.5, hard=True),
    "sample, ReinMax": lambda logits: sample(logits, "ReinMax"),
}

# %% [markdown]
# ## A gradient, many times
#
# The gradient of the expected cost at one logit, from 20 000 single draws each: how often which value came, the mean,
# and the exact gradient. A low temperature has long tails, a high one a bias; ReinMax is exact on this loss, which is
# quadratic.

# %%
torch.manual_seed(0)
start = torch.randn(2, 3)
leaf = start.clone().requires_grad_()
pi = leaf.softmax(dim=-1)
states = [(i, j) for i in range(3) for j in range(3)]
expected = sum(pi[0, i] * pi[1, j] * (cost[0, i] + cost[1, j]) ** 2 for i, j in states)
(exact,) = torch.autograd.grad(expected, leaf)

found = {}
for name, draw_once in draws.items():
    rows = start.expand(20_000, 2, 3).clone().requires_grad_()
    (found[name],) = torch.autograd.grad(paid(draw_once(rows)).sum(), rows)

with plots.style():
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharex=True, sharey=True)
    for axes, (name, gradients) in zip(panels, found.items(), strict=True):
        axes.hist(gradients[:, 0, 0], bins=torch.linspace(-4, 1, 41).tolist(), color="#56B4E9")
        axes.axvline(exact[0, 0], color="black", label="exact")
        axes.axvline(gradients[:, 0, 0].mean(), color="#D55E00", linestyle="--", label="mean")
        axes.set_title(name.replace(", ", "\n"))
    panels[0].legend()
    figure.supxlabel("d cost / d logit, from single draws")
    figure.supylabel("draws")
figure

# %% [markdown]
# The same as a table, for all logits together:

# %%
estimators = [StraightThroughGumbelSoftmax(tau) for tau in (1.0, 0.5, 0.1)] + [ReinMax(), ILSNewton()]
report = gradient_report(paid, start.unsqueeze(0), estimators, draws=5_000, title="two switches")
report

# %%
draw([report])

# %% [markdown]
# ## Training

# %%
curves = {}
for name, draw_once in draws.items():
    torch.manual_seed(0)
    logits, curves[name] = torch.zeros(2, 3, requires_grad=True), []
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        loss = paid(draw_once(logits.expand(64, 2, 3))).mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        curves[name].append(loss.item())

with plots.style():
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve, label=f"{name}: {curve[-1]:.2f}")
    axes.set(xlabel="optimiser steps", ylabel="cost, mean of 64 draws", yscale="log")
    axes.legend()
figure
