"""Slow, plain forms of every estimator, written from the papers' equations: one file a family.

`FORMS` maps a class to its form; the formula law compares both, and fails for a class that has none. A file in this
folder is found by itself.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module

from ils_lightning.estimators import Estimator
from ils_lightning.testing.formula import Slow

FORMS: dict[type[Estimator], Slow] = {}


def form_of(*classes: type[Estimator]) -> Callable[[Slow], Slow]:
    """Enters the function below it as the slow form of these classes."""

    def enter(slow: Slow) -> Slow:
        FORMS.update(dict.fromkeys(classes, slow))
        return slow

    return enter


for found in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{found.name}")
