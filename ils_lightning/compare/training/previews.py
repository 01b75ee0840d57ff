"""Models of a comparison's runs, made to be looked at before anything is trained."""

import json
from copy import deepcopy
from typing import Any

from lightning import LightningModule

from ils_lightning.describe import preview
from ils_lightning.type_hints import hints

_PART = "estimator"


class Previews:
    """Makes models of which most differ in their estimator alone: what they have in common is parsed once.

    A ranking has a hundred runs, and to parse a model's description takes ten times as long as to make the model.
    """

    def __init__(self) -> None:
        self._common: dict[str, tuple[type, Any, dict[str, Any]]] = {}
        self._parts: dict[str, Any] = {}

    def make(self, description: dict[str, Any]) -> LightningModule:
        """Makes the model of a description.

        Raises:
            ValueError: as `describe.create` does.
        """
        common = dict(description.get("init_args") or {})
        if (part := common.pop(_PART, None)) is None or set(description) > {"class_path", "init_args"}:
            return preview(description, LightningModule)
        key = json.dumps([description["class_path"], common], sort_keys=True, default=repr)
        if key not in self._common:
            model = preview(description, LightningModule)
            known = hints(type(model))
            if known.keys() >= {_PART, *common}:  # else **kwargs hands some on, of types unknown here
                made = {name: self._made(known[name], one) for name, one in common.items()}
                self._common[key] = type(model), known[_PART], made
            return model
        kind, of_part, arguments = self._common[key]
        try:
            return kind(**deepcopy(arguments), **{_PART: deepcopy(self._made(of_part, part))})
        except Exception:  # made as it will be for training, so that the error names the place in the file
            return preview(description, LightningModule)

    def _made(self, kind: Any, value: Any) -> Any:
        """An argument, which is made of its description once."""
        if not isinstance(value, dict) or "class_path" not in value:
            return value
        key = json.dumps(value, sort_keys=True, default=repr)
        if key not in self._parts:
            self._parts[key] = preview(value, kind)
        return self._parts[key]
