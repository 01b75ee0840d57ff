"""Lightning callbacks: pictures, reports, progress, checkpoints, random streams."""

from ils_lightning.callbacks.figures import Figures
from ils_lightning.callbacks.last_checkpoint import LastCheckpoint
from ils_lightning.callbacks.progress import StepProgress
from ils_lightning.callbacks.rank_seed import RankSeed
from ils_lightning.callbacks.report import FitReport

__all__ = ["Figures", "FitReport", "LastCheckpoint", "RankSeed", "StepProgress"]
