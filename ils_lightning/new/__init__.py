"""The verb `new`: starting files for an estimator or a module of one's own."""

from ils_lightning.new.command import new

__all__ = ["new"]
