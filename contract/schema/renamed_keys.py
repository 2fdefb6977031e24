"""Config keys that have a new name: the old one keeps working, with a message that says so."""

from collections.abc import Iterator, Mapping
from typing import Any

# Old key to new key, both dotted, in the same section. A frozen pipeline keeps its keys for as long
# as its run is stored, so an entry stays until no stored run can hold the old key.
RENAMED_KEYS: Mapping[str, str] = {
    "optimize.runtimes": "optimize.engines",
}


def new_key(key: str) -> str:
    """Return a dotted key such as `optimize.runtimes.tolerance` under its new name."""
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def with_new_keys(raw: Any) -> Any:
    """Return a parsed config in which every renamed key has its new name; anything else as it is.

    Raises:
        ValueError: If a config has a key under both names.
    """
    for old, new in RENAMED_KEYS.items():
        raw = _with_new_key(raw, old.split("."), old, new)
    return raw


def deprecations(raw: Any) -> Iterator[str]:
    """Yield a message for each old key of a parsed config, which names the new key."""
    for old in RENAMED_KEYS:
        section = raw
        for key in old.split("."):
            section = section.get(key, _MISSING) if isinstance(section, Mapping) else _MISSING
        if section is not _MISSING:
            yield deprecation(old)


def deprecation(key: str) -> str:
    """Return what users of an old key are told."""
    return f"{key}: deprecated name; write '{new_key(key)}' instead"


_MISSING = object()


def _with_new_key(raw: Any, path: list[str], old: str, new: str) -> Any:
    key, *inner = path
    if not isinstance(raw, Mapping) or key not in raw:
        return raw
    if inner:
        return {**raw, key: _with_new_key(raw[key], inner, old, new)}
    name = new.rpartition(".")[2]
    if name in raw:
        raise ValueError(f"{old}: deprecated name of '{new}', which is there too; remove it")
    return {name if found == key else found: value for found, value in raw.items()}
