"""`python -m ils_lightning bench`: what a draw, a step and an epoch cost, beside what one would use instead."""

from ils_lightning.bench.command import bench

__all__ = ["bench"]
