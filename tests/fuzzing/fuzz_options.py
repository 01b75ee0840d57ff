"""Bad values for every option of every class that a configuration may name, generated from their signatures."""

import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from hostile import Case
from torch import Tensor

from ils_lightning.callbacks import GradientProbe, OptionSchedule
from ils_lightning.data import (
    CartPole,
    Digits,
    ImageData,
    ImageFiles,
    ListOps,
    MiniGrid,
    SingleDraws,
    Springs,
    Sudoku,
    Text,
)
from ils_lightning.estimators.table import classes
from ils_lightning.likelihoods import DiscretizedLogistic, Gaussian
from ils_lightning.modules import (
    CategoricalFit,
    DiscreteVAE,
    HardAttention,
    HierarchicalVAE,
    ImaginationActor,
    LatentTree,
    MixtureOfExperts,
    PolynomialProgramming,
    RelationalInference,
    SudokuSolver,
    VariableFit,
    WorldModel,
)
from ils_lightning.networks import MLP, ConvDecoder
from ils_lightning.type_hints import hints

SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
TOY = ["fit", *SHORT, "--model=CategoricalFit", "--model.chunk=1", "--model.estimator=ReinMax"]
ENERGY = [*TOY, "--data=SingleDraws", "--model.loss=RBFEnergy"]
VAE = ["fit", *SHORT, "--model=DiscreteVAE", "--model.estimator=ReinMax", "--data=Digits"]
WRONG = {
    int: ["abc", "1.5", "[1, 2]", "{a: 1}", "nan", "", "²"],
    float: ["abc", "[[1]]", "{a: 1}", "1,5", ""],
    bool: ["maybe", "2", "[true]"],
    list: ["abc", "{a: 1}", "[a, b]"],
    Sequence: ["abc", "{a: 1}", "[a, b]"],
}
FAR = {int: ["-1", "-99999999999", "0"], float: ["nan", "inf", "-inf", "-1", "0"]}
"""Values of the right type that hardly any option can take."""

Kinds = dict[str, Any]


def members(kind: Any) -> list[Any]:
    """The types of a union, or the type alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return [part for one in get_args(kind) for part in members(one)]
    return [kind]


def wrong(kind: Any) -> list[str]:
    """Values of no type that `kind` allows."""
    parts = members(kind)
    if literals := [value for one in parts if get_origin(one) is Literal for value in get_args(one)]:
        return [f"{literals[0]}x", "7", "[]", "{}"]
    if str in parts or Any in parts:
        return []
    plain = {get_origin(one) or one for one in parts if one not in (Tensor, type(None))}
    if plain == {float, list}:
        return [*WRONG[float], "[a]", "[1, b]"]
    return [value for one in plain for value in WRONG.get(one, ["Missing", "7", "[1]"])][:7]


def far(kind: Any) -> list[str]:
    """Values of the right type that are out of most ranges."""
    return [value for one in members(kind) for value in FAR.get(one, [])]


FINE = {
    "0": ["beta", "rate", "decay", "base", "ridge", "penalty", "weight", "coefficient", "eta", "gap", "largest"],
    "-1": ["weight", "coefficient"],
    "7": ["gap"],
}
"""Values that an option of an estimator does take."""


def of_estimators() -> Iterator[Case]:
    """Options of every estimator."""
    for kind in classes():
        wrapper = kind.kind == "wrapper"
        words = [*ENERGY, f"--model.estimator={kind.__name__}"]
        if not wrapper and kind().binary:
            words += ["--model.categories=2", "--data.categories=2"]
        for option, type_ in hints(kind).items():
            inner = ["--model.estimator.estimator=ReinMax"] if wrapper and option != "estimator" else []
            for value in [*wrong(type_), *far(type_)]:
                if option not in FINE.get(value, []):
                    one = [*words, *inner, f"--model.estimator.{option}={value}"]
                    yield Case(f"{kind.__name__}.{option}={value}", one, (option,))


WORLD = '{"estimator": "ReinMax", "size": [4, 2]}'
MODULES = {
    CategoricalFit: ENERGY,
    DiscreteVAE: VAE,
    HierarchicalVAE: ["fit", "--config=vae_hierarchical", *SHORT],
    HardAttention: ["fit", "--config=hard_attention", *SHORT, "--data=Digits"],
    ImaginationActor: ["fit", "--config=imagination_cart_pole", f"--model.world={WORLD}", *SHORT],
    LatentTree: ["fit", "--config=listops", *SHORT],
    MixtureOfExperts: ["fit", "--config=moe_text", *SHORT],
    PolynomialProgramming: ["fit", "--config=polynomial", *SHORT],
    RelationalInference: ["fit", "--config=relational", *SHORT],
    SudokuSolver: ["fit", "--config=sudoku", *SHORT],
    VariableFit: ["fit", "--config=variables_toy", *SHORT],
    WorldModel: ["fit", "--config=world_model", *SHORT],
}
DATA = {
    CartPole: ["fit", "--config=world_model", *SHORT],
    MiniGrid: ["fit", "--config=world_model_grid", *SHORT],
    Digits: VAE,
    ImageData: [*VAE, "--data=ImageData", "--data.download=false"],
    ImageFiles: [*VAE, "--data=ImageFiles", "--data.path=images"],
    ListOps: ["fit", "--config=listops", *SHORT],
    SingleDraws: ENERGY,
    Springs: ["fit", "--config=relational", *SHORT],
    Text: ["fit", "--config=moe_text", *SHORT],
    Sudoku: ["fit", "--config=sudoku", *SHORT],
}
MAY_BE_0 = ["settings", "record_every", "kl_warmup", "free_bits", "importance_samples", "threshold", "validation"]
MAY_BE_0 += ["margin", "residual_blocks", "centre", "leak", "share", "every", "balance"]
MAY_BE_0 += ["unimix", "free_nats", "dynamics", "representation", "trace", "entropy"]
FINE_OF_PARTS = {**{key: ["0"] for key in MAY_BE_0}, "centre": ["0", "-1"]}
SKIPPED = ["estimator", "tokenizer", "world", "args", "kwargs"]  # tried by name, or not options
TRAINER = {
    "max_steps": ["abc", "-2", "1.5", "nan", "[]"],
    "max_epochs": ["abc", "-2", "1.5", "nan"],
    "devices": ["0", "-7", "abc", "1.5"],
    "accelerator": ["abacus", "7", "", "gpu", "tpu"],
    "strategy": ["ddpp", "7", "os.system"],
    "precision": ["17", "abc", "fp99"],
    "gradient_clip_val": ["abc", "[]"],
    "gradient_clip_algorithm": ["abc", "7"],
    "val_check_interval": ["abc", "-1", "2.5", "nan"],
    "check_val_every_n_epoch": ["abc", "1.5"],
    "limit_train_batches": ["abc", "-1", "1.5"],
    "limit_val_batches": ["abc", "-1", "1.5"],
    "log_every_n_steps": ["abc", "1.5", "-1"],
    "accumulate_grad_batches": ["abc", "0", "-1", "1.5"],
    "num_sanity_val_steps": ["abc", "1.5", "-2"],
    "max_time": ["abc", "{a: 1}"],
    "fast_dev_run": ["abc", "-1"],
    "num_nodes": ["abc", "0"],
    "logger": ["abc", "[7]"],
    "profiler": ["abc"],
    "enable_checkpointing": ["abc", "7"],
}


def of_parts() -> Iterator[Case]:
    """Options of modules, data, networks, likelihoods, callbacks and the Trainer."""
    tables = [("model", one, words) for one, words in MODULES.items()]
    tables += [("data", one, words) for one, words in DATA.items()]
    tables += [("model.encoder", MLP, VAE), ("model.decoder", ConvDecoder, [*VAE, "--model.latents=16"])]
    tables += [("model.likelihood", one, VAE) for one in (DiscretizedLogistic, Gaussian)]
    tables += [("trainer.callbacks", one, ENERGY) for one in (GradientProbe, OptionSchedule)]
    for place, kind, words in tables:
        named = [f"--{place}{'+' * (place[0] == 't')}={kind.__name__}"]
        if place == "model" or named[0] in words:
            named = []
        for option, type_ in hints(kind).items():
            tried = [*wrong(type_)[:3], *(far(type_) if "seed" not in option else [])]
            for value in tried if option not in SKIPPED else []:
                if value not in FINE_OF_PARTS.get(option, []):
                    yield Case(
                        f"{kind.__name__}.{option}={value}", [*words, *named, f"--{place}.{option}={value}"], (option,)
                    )
    for option, bad in TRAINER.items():
        yield from (Case(f"trainer.{option}={v}", [*ENERGY, f"--trainer.{option}={v}"], ()) for v in bad)
