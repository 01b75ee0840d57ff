"""The estimators of a report and their names."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ils_lightning.describe import create, describe, in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Exact, Vimco
from ils_lightning.packaged import folder

Estimators = Mapping[str, Any] | Sequence[Any] | Estimator


def default_estimators() -> dict[str, Estimator]:
    """Every public estimator whose target is d E f / d logits, at its recommended settings."""
    made: list[Estimator] = [Exact()]
    for path in sorted((folder() / "estimators").glob("*.yaml")):
        made.append(create(yaml.safe_load(path.read_text(encoding="utf-8")), Estimator))
    return {_short_name(one): one for one in made if one.kind != "marginal" and not isinstance(one, Vimco)}


def _short_name(estimator: Estimator) -> str:
    """The name of the class, and of the one that it wraps."""
    wrapped = [type(one).__name__ for one in _given(estimator).values() if isinstance(one, Estimator)]
    return f"{type(estimator).__name__}{f'({wrapped[0]})' if wrapped else ''}"


def by_name(estimators: Estimators | None) -> dict[str, Estimator]:
    """Objects by name: one alone and those of a list by how one would write them."""
    if estimators is None:
        return default_estimators()
    if isinstance(estimators, str | Estimator) or (isinstance(estimators, Mapping) and "class_path" in estimators):
        estimators = [estimators]
    if isinstance(estimators, Mapping):
        return {name: create(one, Estimator) for name, one in estimators.items()}
    made = [create(one, Estimator) for one in estimators]
    if not made or not all(isinstance(one, Estimator) for one in made):
        raise Refusal(f"estimators must hold at least one estimator, by object or name; given {list(estimators)}")
    names = [name_of(one) for one in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refusal(
            f"estimators holds {' and '.join(twice)} more than once, whose rows could not be told apart; give a "
            "mapping of names to estimators"
        )
    return dict(zip(names, made, strict=True))


def name_of(estimator: Estimator) -> str:
    """Writes an estimator as one would call it, with the options that are not at their defaults.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> name_of(ReinMax()), name_of(ReinMax(temperature=1.0)), name_of(ReinMax(1.3))
        ('ReinMax', 'ReinMax', 'ReinMax(temperature=1.3)')
    """
    signature = inspect.signature(type(estimator))
    changed = [
        f"{key}={in_words(value)}" for key, value in _given(estimator).items() if _differs(value, signature, key)
    ]
    return f"{type(estimator).__name__}({', '.join(changed)})" if changed else type(estimator).__name__


def _given(estimator: Estimator) -> dict[str, Any]:
    """The arguments that an estimator was made with, by name."""
    args, kwargs = estimator._arguments
    return inspect.signature(type(estimator)).bind(*args, **kwargs).arguments


def _differs(value: Any, signature: inspect.Signature, name: str) -> bool:
    plain, default = describe(value), signature.parameters[name].default
    return default is inspect.Parameter.empty or plain != describe(default)
