"""What variational models of images share: set-up from the data, steps, logs, pictures, samples."""

from contextlib import contextmanager
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn

from ils_lightning import plots
from ils_lightning.data.images import Images
from ils_lightning.describe import create, in_words
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.categorical import one_hot
from ils_lightning.likelihoods import Bernoulli, Likelihood
from ils_lightning.metrics import ActiveLatents, CodeUsage, ImportanceWeightedBound, NegativeELBO
from ils_lightning.modules.base import DiscreteModule, Tracked
from ils_lightning.modules.epoch_curve import EpochCurve
from ils_lightning.modules.prior import Prior, UniformPrior
from ils_lightning.networks import MLP, Network
