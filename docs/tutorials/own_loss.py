# %% [markdown]
# # Bring your own loss
#
# Four tasks are each to be put on one of three machines, so that the last machine is done as early as possible. A
# choice is a categorical variable: four latents with three categories. What is learnt is their logits. The loss is
# any function of the draws. As a script: `python -m ils_lightning.tutorials.own_loss`.

# %%
import torch
from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.figure import draw
from ils_lightning.estimators import Exact, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import enumerate_states
from ils_lightning.looks import looks

# %matplotlib inline

# %% [markdown]
# ## The loss
#
# One-hot draws in, one value for each of them out. That is all an estimator asks for. The axis in front is that of
# draws, then come the rows of a batch; each row is judged by itself. The loss may be steep, have kinks like this one,
# or hold a network.

# %%
hours = torch.tensor([4.0, 3.0, 2.0, 2.0])  # of each task


def done_after(z):  # [samples, *batch, tasks, machines]
    """Hours until the last machine is done, [samples, *batch]."""
    loads = (z * hours[:, None]).sum(dim=-2)  # hours of each machine
    return loads.amax(dim=-1)


best = done_after(enumerate_states(4, 3, like=hours)).min()  # of all 3 ** 4 = 81 plans
print(f"The best plan takes {best:.2f} hours.")

# %% [markdown]
# ## Which estimator?
#
# Measure them before training. With 81 plans the exact gradient is a sum, and estimates can be held against it.

# %%
torch.manual_seed(0)
logits = torch.randn(1, 4, 3)  # [batch, latents, categories]
report = gradient_report(
    done_after, logits, ["StraightThrough", "ReinMax", "LeaveOneOut"], draws=5_000, title="my loss"
)
report

# %% [markdown]
# A **bias** stays however many estimates are averaged; the **variance** of the average of n shrinks as 1 / n. The
# slope of this loss says nothing of the machines that are done before the last one, so the two estimators that use
# slopes are biased. `LeaveOneOut` uses values alone: it has no bias, and costs four evaluations of the loss. At 100
# evaluations the three are alike; a training averages over many more.

# %%
draw([report])

# %% [markdown]
# ## Train
#
# The estimator calls the loss itself. `forward` returns the loss of the draws, and `backward` delivers the estimate.


# %%
def trained(estimator, steps=300):
    """E f along the training, each step with the mean estimate of eight draws."""
    torch.manual_seed(0)
    own, curve = logits.clone().requires_grad_(), []
    optimizer = torch.optim.Adam([own], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(own.expand(8, -1, -1), done_after).mean().backward()
        optimizer.step()
        curve.append(Exact()(own, done_after).item())
    return curve


estimators = [StraightThrough(), ReinMax(), LeaveOneOut(samples=4), Exact()]
curves = {type(one).__name__: trained(one) for one in estimators}

with plots.style():
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, look in looks(curves).items():
        axes.plot(curves[name], label=f"{name}: {curves[name][-1]:.2f}", color=look.colour, linewidth=look.width)
    axes.axhline(best, color="grey", linestyle="--", label=f"best plan: {best:.2f}")
    axes.set(xlabel="optimiser steps", ylabel="E f (hours)")
    axes.legend(loc="upper right")
figure

# %% [markdown]
# The two that the report calls biased stop at plans that are worse. Next: [your own encoder](own_encoder.md), or
# [which estimator for my loss](../which_estimator.md).
