"""Every key of a pipeline file and of a runtime file says what it means, its unit and its range."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from contract.schema.pipeline import PipelineConfig
from contract.schema.runtime import RuntimeConfig

# A name that ends so states the unit; otherwise the description does.
UNIT_IN_NAME = re.compile(
    r"_(seconds|micros|ms|mb|days|percent|points|ratio|steps|examples|checkpoints|requests|rows"
    r"|restarts|batches|threads|replicas|servers|components)$"
)
UNIT_IN_TEXT = re.compile(
    r"\b(seconds|milliseconds|megabytes|percent|points|rows|examples|steps|updates|checkpoints"
    r"|requests|processes|workers|replicas|GPUs|lines|weights|values|micro-batches|retries|runs"
    r"|versions|share|probability|factor|TCP port|unit|units|relative to|answers|labels)\b",
    re.IGNORECASE,
)
BOUNDS = ("ge", "gt", "le", "lt", "interval")
RANGE_IN_TEXT = re.compile(
    r"\b(any (number|integer|value)|at least -?\d|from -?[\d.]+ to|above -?\d)", re.IGNORECASE
)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def all_models() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [PipelineConfig, RuntimeConfig]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += models_in(field.annotation)
    return found


KEYS = {
    f"{model.__name__}.{name}": field
    for model in all_models()
    for name, field in model.model_fields.items()
}


def numbers_in(annotation: Any) -> Iterator[list[Any]]:
    """Yield the constraints around each number of an annotation, also inside of containers."""
    if annotation in (int, float):
        yield []
    elif get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for constraints in numbers_in(inner):
            yield [*constraints, *metadata]
    elif not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        for argument in get_args(annotation):
            yield from numbers_in(argument)


def is_bounded(constraints: list[Any]) -> bool:
    inner = [m for one in constraints if isinstance(one, FieldInfo) for m in one.metadata]
    return any(
        getattr(one, bound, None) is not None for one in [*constraints, *inner] for bound in BOUNDS
    )


def problems(key: str, field: FieldInfo) -> list[str]:
    text = field.description or ""
    found = []
    if not re.fullmatch(r"['\dA-Z].*\.", text) or len(text.split()) < 4:
        found.append("no description that is a sentence")
    direct = [*numbers_in(field.annotation)]
    numbers = [[*constraints, *field.metadata] for constraints in direct]
    if numbers and not (UNIT_IN_NAME.search(key) or UNIT_IN_TEXT.search(text)):
        found.append("no unit")
    if not all(is_bounded(constraints) for constraints in numbers) and not (
        RANGE_IN_TEXT.search(text)
    ):
        found.append("no range")
    return found


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_described_with_unit_and_range(key: str) -> None:
    assert problems(key, KEYS[key]) == []


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_a_section_is_described(model: type[BaseModel]) -> None:
    assert re.fullmatch(r"[A-Z].*[.]", (model.__doc__ or "").partition("\n")[0])


def test_all_sections_of_both_files_are_looked_at() -> None:
    assert len(KEYS) > 240
    assert {"PipelineConfig.name", "CsvSource.files", "RoundWeights.num_steps"} <= KEYS.keys()
    assert {"RuntimeConfig.root", "JobConfig.port", "TolerationConfig.key"} <= KEYS.keys()


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (FieldInfo(annotation=str), ["no description that is a sentence"]),
        (
            FieldInfo(annotation=str, description="of the volume"),
            ["no description that is a sentence"],
        ),
        (
            FieldInfo(annotation=int, description="How much of it there is."),
            ["no unit", "no range"],
        ),
        (FieldInfo(annotation=float, description="How long it takes, in seconds."), ["no range"]),
        (
            FieldInfo(annotation=dict[str, float], description="Seconds by name."),
            ["no description that is a sentence", "no range"],
        ),
        (FieldInfo(annotation=int, description="Seconds that it takes, at least 1."), []),
    ],
)
def test_a_poor_description_is_found(field: FieldInfo, found: list[str]) -> None:
    assert problems("Section.key", field) == found
