"""The verb `sample`: images from the prior of a trained model, or from one learnt after it, or texts."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from ils_lightning import atomic, plots
from ils_lightning.cli.checkpoints import configuration, path_among
from ils_lightning.errors import Refusal, are, is_of_memory
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.protocols import HasSamples, HasWriting
from ils_lightning.set_up import require_numbers
from ils_lightning.type_hints import class_at

_RULE = f"\n\n{'-' * 64}\n\n"  # between two texts


def sample(
    ckpt_path: str | None = None,
    count: int = 64,
    output: str | None = None,
    images: str | None = None,
    seed: int = 0,
    own: list[str] | None = None,
) -> None:
    """Draws images from the prior of a checkpoint's model, or texts that it writes.

    Args:
        ckpt_path: checkpoint of a `fit`.
        count: number of images or texts.
        output: picture of all images, on a square grid (.png), or file of the texts (.txt); samples.png or samples.txt
            unless given.
        images: also write the images themselves, float32 [count, channels, height, width] (.npy or .pt).
        seed: of the draws.
        own: dotted names of classes of your own that the checkpoint names, such as my_module.Encoder.
    """
    _check(count, images, seed)
    path = path_among(["sample", *([f"--ckpt_path={ckpt_path}"] if ckpt_path else [])]) or ""
    model = load(path, own or [])
    if not isinstance(model, HasSamples):
        _write_texts(model, count, seed, _output(output, ".txt", "texts"), images)
        return
    picture = _output(output, ".png", "images", " (--images writes arrays)")
    drawn = _drawn(model, count, seed)
    written = [_write_picture(drawn, picture)]
    if images is not None:
        written.append(_write_images(drawn, Path(images)))
    print(f"{are(count, 'image', 'images')} in {' and '.join(map(str, written))}")


def load(ckpt_path: str, own: Sequence[str] = ()) -> Any:
    """Returns the model of a checkpoint, on the CPU; classes of one's own that it names are known by `own`.

    Raises:
        ValueError: when it holds another kind of model, or does not say which.
    """
    for dotted in own:
        if not isinstance(class_at(dotted), type):
            raise Refusal(f"own: there is no class {dotted!r}; give dotted names, such as my_module.Encoder")
    name = configuration(ckpt_path).get("model", {}).get("class_path")
    if name is None:
        raise Refusal(f"--ckpt_path must be a checkpoint of the command line's fit; {ckpt_path!r} names no model")
    kind = class_at(str(name))
    if not (isinstance(kind, type) and issubclass(kind, LightningModule) and issubclass(kind, HasSamples | HasWriting)):
        raise Refusal(
            "only models with a method sample(count, generator), which returns images, can be sampled, such as "
            "DiscreteVAE and CodePrior, or with write(count, generator=...), which returns texts; "
            f"{ckpt_path!r} holds a {name.split('.')[-1]}"
        )
    with warnings.catch_warnings():
        for message in ("JsonargparseDeprecationWarning", r"was deprecated in v4.* will be\s+removed in v5"):
            warnings.filterwarnings("ignore", f"(?s).*{message}")  # Lightning's own calls
        model = kind.load_from_checkpoint(ckpt_path, map_location="cpu", weights_only=True)
    require_numbers(model)
    return model


def _check(count: int, images: str | None, seed: int) -> None:
    if count < 1:
        raise Refusal(f"count must be at least 1; given {count}")
    if not -(2**63) <= seed < 2**64:
        raise Refusal(f"seed must fit into 64 bits; given {seed}")
    if images is not None and Path(images).suffix not in (".npy", ".pt"):
        raise Refusal(f"images must end in .npy or .pt; given {images!r}")


def _output(given: str | None, suffix: str, things: str, hint: str = "") -> Path:
    path = Path(f"samples{suffix}" if given is None else given)
    if path.suffix != suffix:
        raise Refusal(f"output of {things} must end in {suffix}; given {given!r}{hint}")
    return path


def _write_texts(model: HasWriting, count: int, seed: int, path: Path, images: str | None) -> None:
    if images is not None:
        raise Refusal(f"images: {type(model).__name__} draws texts, which are in --output alone; given {images!r}")
    texts = model.write(count, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(_RULE.join(texts) + "\n", path)
    print(f"{texts[0].strip()}\n{are(count, 'text', 'texts')} in {path}")


def _drawn(model: Any, count: int, seed: int) -> Tensor:
    try:
        with evaluating(model):
            drawn = model.sample(count, torch.Generator().manual_seed(seed))
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not is_of_memory(error):
            raise
        raise Refusal(f"count: {count} images do not fit into the memory: {error}") from None
    if not isinstance(drawn, Tensor) or drawn.dim() != 4 or len(drawn) != count:
        given = list(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
        raise Refusal(
            f"{type(model).__name__}.sample({count}) must return images [{count}, channels, height, width]; "
            f"given {given}"
        )
    if not torch.isfinite(drawn).all():
        raise Refusal(f"the images that this {type(model).__name__} draws are not finite: look at its weights")
    return drawn.float()


def _write_picture(drawn: Tensor, path: Path) -> Path:
    columns = int(np.ceil(len(drawn) ** 0.5))
    rows = -(-len(drawn) // columns)
    grid = torch.ones(rows * columns, *drawn.shape[1:])
    grid[: len(drawn)] = drawn
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as partial:
        plots.image_grid(grid.unflatten(0, (rows, columns))).savefig(partial, format="png", dpi=150)
    return path


def _write_images(drawn: Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pt":
        atomic.save(drawn, path)
    else:
        with atomic.replacing(path) as partial, partial.open("wb") as file:
            np.save(file, drawn.numpy())
    return path
