"""A logged value as JSON can hold it, and back."""

import base64
import math
from collections.abc import Mapping
from typing import Any


def as_json(value: Any) -> Any:
    """Return a logged value as JSON holds it: bytes as text, or `{"base64": ...}`; NaN as null."""
    if isinstance(value, Mapping):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = "\0"
        return {"base64": base64.b64encode(value).decode()} if "\0" in text else text
    return value


def from_json(value: Any) -> Any:
    """Return what `as_json` was given, except that NaN is None and text is text."""
    if isinstance(value, Mapping):
        return base64.b64decode(value["base64"])
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return value
