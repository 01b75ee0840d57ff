"""Lightning callbacks: pictures, reports, progress, checkpoints, random streams, schedules."""

from ils_lightning.callbacks.compiled_networks import CompiledNetworks
from ils_lightning.callbacks.dashboard import Dashboard
from ils_lightning.callbacks.figures import Figures
from ils_lightning.callbacks.finite_guard import FiniteGuard
from ils_lightning.callbacks.gradient_probe import GradientProbe
from ils_lightning.callbacks.hyperparameters import Hyperparameters
from ils_lightning.callbacks.last_checkpoint import LastCheckpoint
from ils_lightning.callbacks.learning_rate import LearningRate
from ils_lightning.callbacks.option_schedule import OptionSchedule
from ils_lightning.callbacks.predictions import SavePredictions
from ils_lightning.callbacks.progress import StepProgress
from ils_lightning.callbacks.rank_seed import RankSeed
from ils_lightning.callbacks.report import EvaluationReport, FitReport
from ils_lightning.callbacks.resumption import Resumption
from ils_lightning.callbacks.schedules import (
    Constant,
    Cosine,
    Exponential,
    HalfLife,
    Linear,
    Milestones,
    Ramp,
    Schedule,
)
from ils_lightning.callbacks.tokenizer_measures import TokenizerMeasures

__all__ = [
    "CompiledNetworks",
    "Constant",
    "Cosine",
    "Dashboard",
    "EvaluationReport",
    "Exponential",
    "Figures",
    "FiniteGuard",
    "FitReport",
    "GradientProbe",
    "HalfLife",
    "Hyperparameters",
    "LastCheckpoint",
    "LearningRate",
    "Linear",
    "Milestones",
    "OptionSchedule",
    "Ramp",
    "RankSeed",
    "Resumption",
    "SavePredictions",
    "Schedule",
    "StepProgress",
    "TokenizerMeasures",
]
