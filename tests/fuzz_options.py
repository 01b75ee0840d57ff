"""Bad values for every option of every class that a configuration may name, generated from their signatures."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from torch import Tensor

SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
TOY = ["fit", *SHORT, "--model=CategoricalFit", "--model.chunk=1", "--model.estimator=ReinMax"]
ENERGY = [*TOY, "--data=SingleDraws", "--model.loss=RBFEnergy"]
VAE = ["fit", *SHORT, "--model=DiscreteVAE", "--model.estimator=ReinMax", "--data=Digits"]
WRONG = {
    int: ["abc", "1.5", "[1, 2]", "{a: 1}", "nan", "", "²"],
    float: ["abc", "[[1]]", "{a: 1}", "1,5", ""],
    bool: ["maybe", "2", "[true]"],
    list: ["abc", "{a: 1}", "[a, b]"],
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
