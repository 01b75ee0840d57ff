"""The base of the project's DataModules: it makes bare class names work on the command line."""

from lightning import LightningDataModule


class DiscreteData(LightningDataModule):
    """A LightningDataModule of this suite."""
