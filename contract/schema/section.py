"""What all sections of the config have in common."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

NAME = r"[a-z][a-z0-9_]{0,39}"  # the whole of a pipeline's name matches it

Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1, lt=1 << 63)]  # TensorFlow counts in int64
Scalar = str | int | float | bool


class Section(BaseModel):
    """Base of every config section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        serialize_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
    )


def is_absolute(path: str) -> bool:
    """Tell whether a source path needs no folder in front: absolute, or with a URI scheme."""
    return "://" in path or PurePosixPath(path).is_absolute()
