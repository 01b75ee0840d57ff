"""Packages that only some options need."""

from importlib.util import find_spec

from ils_lightning.errors import Refusal


def require(package: str, option: str, extra: str) -> None:
    """Raises a Refusal that names the extra to install where `package` is missing.

    Example:
        >>> require("no_such_package", "compare --tune", "tune")
        Traceback (most recent call last):
        ils_lightning.errors.Refusal: compare --tune needs no_such_package: pip install 'ils-lightning[tune]'
    """
    if find_spec(package) is None:
        raise Refusal(f"{option} needs {package}: pip install 'ils-lightning[{extra}]'")
