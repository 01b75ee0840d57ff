"""Docstrings as the reference reads them."""

import re
from typing import Any

import griffe
import signs

_TYPED = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class TypedLines(griffe.Extension):
    """Shows what is typed as code: in a section `Example:`, read as `Examples:`, and beside sections."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", signs.docstring(obj.docstring.value), flags=re.MULTILINE)
            obj.docstring.value = _TYPED.sub(r"```pycon\n\g<0>\n```", text)
