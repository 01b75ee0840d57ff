"""Docstrings as the reference reads them."""

import re
from typing import Any

import griffe


class OneExample(griffe.Extension):
    """Reads a section `Example:` as the section `Examples:`, whose typed lines are shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
