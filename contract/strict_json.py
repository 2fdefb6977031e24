"""JSON without a key twice in one object: parsers take the last value and ignore the others."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class RepeatedKey(NamedTuple):
    """A key that an object has more than once, and where the object is, as `instances[0]`."""

    key: str
    place: str


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these keys and values; the `object_pairs_hook` of Python's `json`.

    Raises:
        ValueError: With the key that is there twice.
    """
    if (key := _repeated(pairs)) is not None:
        raise ValueError(f"the key '{key}' is there twice in one object")
    return dict(pairs)


def find_repeated_key(text: str | bytes) -> RepeatedKey | None:
    """Return the first repeated key of a JSON text, or None.

    Raises:
        ValueError: If it is not JSON.
        RecursionError: If it is nested too deeply.
    """
    keys = list[str]()

    def marked(pairs: Sequence[tuple[str, Any]]) -> Any:
        if (key := _repeated(pairs)) is None:
            return dict(pairs)
        keys.append(key)
        return _Marked(key)

    # numbers stay text: they do not matter, and may be longer than Python converts
    parsed = json.loads(text, object_pairs_hook=marked, parse_int=str, parse_float=str)
    return _found(parsed, "") if keys else None


class _Marked(NamedTuple):
    key: str


def _repeated(pairs: Sequence[tuple[str, Any]]) -> str | None:
    if len(dict(pairs)) == len(pairs):
        return None
    seen = set[str]()
    return next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _found(value: Any, place: str) -> RepeatedKey | None:
    if isinstance(value, _Marked):
        return RepeatedKey(value.key, place)
    inner = list[tuple[Any, str]]()
    if isinstance(value, dict):
        inner = [(one, f"{place}.{key}".lstrip(".")) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(one, f"{place}[{index}]") for index, one in enumerate(value)]
    found = (_found(one, where) for one, where in inner)
    return next((one for one in found if one is not None), None)
