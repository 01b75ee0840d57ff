"""The test of the tests: every deliberate mistake falls by the law that is named beside it."""

import pytest
from formulas import FORMS
from patches import PATCHES
from patching import Patch, mutated

from ils_lightning.testing import LAWS, formula


@pytest.mark.parametrize("patch", PATCHES.values(), ids=[name.replace(" ", "-") for name in PATCHES])
def test_mistake_falls_by_its_law(patch: Patch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patch.function, "__code__", mutated(patch))
    with pytest.raises(AssertionError):
        obey(patch)


def obey(patch: Patch) -> None:
    """The law, applied to a fresh name of the estimator: results that are kept by name belong to the sound one."""
    if patch.law == "formula":
        formula(patch.make, FORMS[type(patch.make())])
    else:
        next(law for law in LAWS if law.__name__ == patch.law)(lambda: patch.make())
