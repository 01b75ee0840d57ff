"""The checkpoint to resume from."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt: after every validation, and when training ends, validated or not."""

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the state in which training ended."""
        trainer.save_checkpoint(self.format_checkpoint_name({}), weights_only=self.save_weights_only)
