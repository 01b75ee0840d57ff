# %% [markdown]
# # Read a report
#
# `gradient_report` measures estimators on a loss at given logits. Here on the autoencoder of [the last
# tutorial](own_encoder.md), before training. As a script: `python -m ils_lightning.tutorials.read_report`.

# %%
import torch
from IPython.display import Markdown

from ils_lightning.data import Digits
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.figure import draw
from ils_lightning.tutorials.own_encoder import Autoencoder
from ils_lightning.tutorials.read_report import sentences

# %matplotlib inline
torch.manual_seed(0)
model = Autoencoder(estimator="ReinMax")
batch = next(iter(Digits(batch_size=8, binarize="none").train_dataloader()))
with torch.no_grad():
    logits, f, _ = model.problem(batch)
list(logits.shape)

# %% [markdown]
# ## The table
#
# The first row is the best for this budget: the average of the estimates that 100 evaluations of the loss buy.

# %%
names = ["StraightThrough", "ReinMax", "ILSNewton", "LeaveOneOut"]
report = gradient_report(f, logits, names, draws=2_000, average=100, title="autoencoder of the digits")
report

# %% [markdown]
# In sentences, column by column for the first row:

# %%
Markdown("\n\n".join(sentences(report)))

# %% [markdown]
# ## The picture
#
# On the left, bias to the right and noise upwards: good is low and left. On the right, how fast averages turn into
# the direction of the gradient.

# %%
draw([report])

# %% [markdown]
# ## Another budget, another winner
#
# Few evaluations favour a low variance, many a low bias. The errors of averages follow from what has been measured.

# %%
for evaluations in (4, 100, 10_000, 1_000_000):
    errors = {row.name: row.error_after(evaluations) for row in report.applicable}
    best = min(errors, key=errors.get)
    print(f"{evaluations:>9,} evaluations of f: {best:<16} error {errors[best]:.1%}")

# %% [markdown]
# And in one sentence:

# %%
Markdown(advice(report))

# %% [markdown]
# The same from the shell, for any configuration or checkpoint: `python -m ils_lightning diagnose --config
# vae_digits`.
