"""The verb `encode`: the codes of a model's data as one file, beside what each of them is the code of."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ils_lightning import atomic
from ils_lightning.data.split_data import SplitData
from ils_lightning.errors import Refusal
from ils_lightning.modules.protocols import HasCodes
from ils_lightning.set_up import set_up

Split = Literal["train", "val", "test"]
Table = dict[str, Any]
"""Columns of equal length by name, see `EncodingTrainer.encode`."""


class EncodingTrainer(Trainer):
    """A Trainer that can also write the codes of a model's data."""

    def encode(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None = None,
        splits: list[Split] | None = None,
        output: Path = Path("codes.npz"),
        weights_only: bool = True,
    ) -> Table:
        """Writes the most probable codes of all rows, in the order in which they are stored.

        The columns of the file are `codes`, int64 [rows, latents]; `split`, which split a row belongs to; `index`, its
        place in the split, or in the array that was split; `name`, the file it was read from, empty where there is
        none; and `label`, -1 where there is none.

        Args:
            model: with a method encode(x) that returns codes.
            datamodule: the data.
            ckpt_path: checkpoint of the model.
            splits: which splits, train, val and test; all of them unless given. May be repeated.
            output: the file, .npz for NumPy or .pt for torch.
            weights_only: read nothing but weights and plain data from the checkpoint.
        """
        chosen = list(splits or (split for split in get_args(Split) if _has(datamodule, split)))
        if Path(output).suffix not in (".npz", ".pt"):
            raise Refusal(f"--output must end in .npz or .pt; given {str(output)!r}")
        if not isinstance(model, HasCodes):
            raise Refusal(
                "encode needs a model with a method encode(x) that returns codes [batch, latents], such as "
                f"DiscreteVAE; {type(model).__name__} has none"
            )
        set_up(self, model, datamodule, ckpt_path, weights_only, stage="fit")
        found = [_table(model, datamodule, split) for split in chosen]
        parts = [one for one in found if one]
        if not parts:
            raise Refusal(f"encode: the data have no rows in {', '.join(chosen)}")
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        _write(table, Path(output))
        print(f"codes of {len(table['codes']):,} rows ({', '.join(chosen)}) are in {output}")
        return table


def _table(model: Any, datamodule: LightningDataModule, split: str) -> Table:
    """The columns of one split; none where it has no rows."""
    codes, labels = [], []
    for batch in in_order(datamodule, split):
        x, label = _image_and_label(batch)
        codes.append(_codes(model, move_data_to_device(x, model.device)))
        labels.append(torch.full((len(codes[-1]),), -1) if label is None else label.cpu().long())
    if not codes:
        return {}
    found, rows = torch.cat(codes), sum(map(len, codes))
    index, names = datamodule.origin(split) if isinstance(datamodule, SplitData) else (torch.arange(rows), [])
    return {
        "codes": found.numpy(),
        "split": np.full(rows, split),
        "index": index.numpy(),
        "name": np.array(names or [""] * rows, dtype=str),
        "label": torch.cat(labels).numpy(),
    }


def _codes(model: Any, x: Any) -> Tensor:
    """The codes `[batch, latents]` of a batch, if that is what the model answers."""
    found = model.encode(x)
    rows = len(x) if isinstance(x, Tensor) else None
    if not isinstance(found, Tensor):
        given = type(found).__name__
    elif found.is_floating_point() or found.is_complex() or found.dim() == 0 or len(found) != (rows or len(found)):
        given = f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)}"
    else:
        return found.detach().cpu().long()
    asked = f"codes [{rows or 'batch'}, latents] of whole numbers"
    raise Refusal(f"{type(model).__name__}.encode(x) must return {asked}; given {given}")


def _has(datamodule: LightningDataModule, split: str) -> bool:
    """Whether the data have loaders of a split: Lightning's own method for them does nothing but raise."""
    return isinstance(datamodule, SplitData) or is_overridden(f"{split}_dataloader", datamodule)


def in_order(datamodule: LightningDataModule, split: str) -> Iterable[Any]:
    """Returns the batches of a split, every row once, as they are stored.

    Raises:
        ValueError: when a loader of another kind than torch's could not be read in order.
    """
    if isinstance(datamodule, SplitData):
        return datamodule.in_order(split)
    loader: Any = getattr(datamodule, f"{split}_dataloader")()
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        size = None if loader.batch_sampler is None else loader.batch_size or 1  # None: the rows are batches already
        return DataLoader(loader.dataset, batch_size=size, collate_fn=loader.collate_fn)
    if loader is None or (isinstance(loader, Sequence) and not len(loader)):
        return []
    raise Refusal(
        f"encode needs rows that have an order: {type(datamodule).__name__}.{split}_dataloader() must return a torch "
        f"DataLoader of a dataset with __getitem__ and __len__; given {type(loader).__name__}"
    )


def _image_and_label(batch: Any) -> tuple[Any, Tensor | None]:
    if hasattr(batch, "x"):
        return batch.x, getattr(batch, "label", None)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        label = batch[1] if len(batch) > 1 else None
        return batch[0], label if isinstance(
            label, Tensor
        ) and label.dim() == 1 and not label.is_floating_point() else None
    return batch, None


def _write(table: Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pt":
        plain = {name: one.tolist() if one.dtype.kind == "U" else torch.from_numpy(one) for name, one in table.items()}
        atomic.save(plain, path)
    else:
        with atomic.replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **table)
