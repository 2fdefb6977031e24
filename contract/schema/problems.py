"""Messages on what is wrong with a config file: the key, what was found, what was expected."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails


def explain(model: type[BaseModel], problem: ErrorDetails, label: str) -> str:
    """Return one of pydantic's problems as a message; `label` is what it calls the file."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(model, problem["loc"])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.6)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"
        return f"{label}: {where}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{label}: {where}: missing"
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
        return f"{label}: {where}: {_unquoted(problem['input'])}"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if isinstance(problem["input"], dict) else f", found {problem['input']!r}"
    return f"{label}: {where}: {message}{found}" if where else f"{label}: {message}"


def _unquoted(found: bool | int | float) -> str:
    if not isinstance(found, bool):
        return f'expected text, found the number {found}; quote it: "{found}"'
    written = "yes, on or true" if found else "no, off or false"
    return (
        f"expected text, found the truth value that YAML makes of an unquoted {written}; quote it"
    )


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that would have been accepted where an unknown one stands."""
    candidates: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        candidates = [
            inner
            for candidate in candidates
            for inner in (_field_models(candidate, part) or _tagged(candidate, part) or [candidate])
        ]
    return sorted(
        {field.alias or name for c in candidates for name, field in c.model_fields.items()}
    )


def _field_models(model: type[BaseModel], key: int | str) -> list[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return list(_models_in(field.annotation))
    return []


def _tagged(model: type[BaseModel], tag: int | str) -> list[type[BaseModel]]:
    kind = model.model_fields.get("kind")
    return [model] if kind is not None and tag in get_args(kind.annotation) else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
