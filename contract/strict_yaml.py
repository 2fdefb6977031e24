"""YAML as config files have it: no key twice, and names stay the text that was written."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from contract.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from yaml import SafeLoader
else:  # libyaml's, where PyYAML was built with it: eight times as fast
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_TEXT_TAG = "tag:yaml.org,2002:str"
_LISTS_OF_TEXT = frozenset({"classes"})  # keys whose items are text by definition, quoted or not


class StrictLoader(SafeLoader):
    """Refuses a key that a mapping has twice: YAML itself takes the last and says nothing.

    Keys, and the names of classes, are text as it is written: YAML 1.1 would make truth values of
    `no` and `on`, numbers of `2020` and `1_000`, and dates of `2020-01-01`.

    ruamel.yaml refuses such keys with their place, too. It is not used: it reads YAML 1.2, which
    would change values (`no`, `017`, `1e3`), takes 1.2 ms for a file instead of 0.3, and 0.1 s to
    import.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping of keys that differ."""
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                first = seen.setdefault(key.value, key.start_mark)
                if first is not key.start_mark:
                    again = f"key '{key.value}' is repeated; it is also on line {first.line + 1}"
                    raise yaml.constructor.ConstructorError(None, None, again, key.start_mark)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = _TEXT_TAG
                if key.value in _LISTS_OF_TEXT and isinstance(value, yaml.SequenceNode):
                    for item in value.value:
                        item.tag = _TEXT_TAG if isinstance(item, yaml.ScalarNode) else item.tag
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def read_yaml(path: Path, label: str) -> dict[str, Any]:
    """Read a file of keys and values; `label` is what messages call it.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If it cannot be read, is not YAML, or holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = yaml.load(text, Loader=StrictLoader)  # noqa: TID251 (safe)
    except FileNotFoundError as error:
        raise NotFoundError(f"{label}: no such file: {path}") from error
    except OSError as error:
        raise ConfigError([f"{label}: cannot be read: {error.strerror}: {path}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{label}: not readable as YAML: {in_one_line(error)}"]) from error
    if raw is None:
        raise ConfigError([f"{label}: empty; expected keys and values"])
    if not isinstance(raw, dict):
        raise ConfigError(
            [f"{label}: expected keys and values, found {json.dumps(raw, default=str)[:40]}"]
        )
    return raw


def in_one_line(error: Exception) -> str:
    """Return what PyYAML says in several lines, without a picture of the place."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = ", ".join(filter(None, (getattr(error, "context", None), error.problem)))  # type: ignore[attr-defined]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
