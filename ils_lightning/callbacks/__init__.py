"""Lightning callbacks: pictures, reports, seeds, schedules."""

from ils_lightning.callbacks.figures import Figures
from ils_lightning.callbacks.report import FitReport

__all__ = ["Figures", "FitReport"]
