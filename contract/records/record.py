"""What all records have in common, and the result that every step leaves."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import DataError, NotFoundError
from contract.storage import write_atomically

RecordT = TypeVar("RecordT", bound="Record")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


def renamed(old: str, new: str) -> Upgrade:
    """Return the upgrade of documents in which a field has its old name."""
    return lambda raw: {new if key == old else key: value for key, value in raw.items()}


class Record(BaseModel):
    """Base of all records. `record_version` rises when old documents no longer fit the class.

    A class that raises its version adds to `upgrades` a function from each older version to the
    next; so every document ever written stays readable.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", serialize_by_alias=True, defer_build=True
    )

    current_version: ClassVar[int] = 1
    upgrades: ClassVar[dict[int, Upgrade]] = {}

    record_version: int = Field(
        0, description="Form of the document; a later Slipway reads all earlier forms."
    )

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        version = raw.get("record_version", cls.current_version)
        oldest = min(cls.upgrades, default=cls.current_version)
        if isinstance(version, int) and version > cls.current_version:
            raise ValueError(
                f"record_version {version} is newer than this Slipway reads "
                f"({cls.current_version}); upgrade Slipway"
            )
        if version not in range(oldest, cls.current_version + 1):
            raise ValueError(
                f"record_version: found {version!r:.100}, expected a number from {oldest} to "
                f"{cls.current_version}"
            )
        while version < cls.current_version:
            raw, version = cls.upgrades[version](raw), version + 1
        return {**raw, "record_version": version}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            NotFoundError: If there is none.
            DataError: If it is not a record of this class.
        """
        try:
            # Not strict: JSON has no tuples, and config sections inside are strict otherwise.
            return cls.model_validate(json.loads(path.read_bytes()), strict=False)
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: no {cls.__name__} there") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "it"
            problem = f"{place}: {first['msg']} ({error.error_count()} problems in all)"
            raise DataError(f"{path}: not a {cls.__name__}: {problem}") from error
        except ValueError as error:
            raise DataError(f"{path}: not a {cls.__name__}: {error}") from error

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_atomically(path, self.model_dump_json(indent=2))


class Artifact(Record):
    """Something that a step made. `path` is relative to the step's folder."""

    path: str = Field(description="Where it is, relative to the step's folder.")
    digest: str = Field(description="'sha256:' and the digest of its content.")
    size_bytes: int = Field(description="Of all its files together.")


class Result(Record):
    """`result.json`: a step has succeeded if and only if its own `result.json` exists."""

    step: str = Field(description="Name of the step.")
    pipeline: str = Field(description="Name of the pipeline.")
    run_id: str = Field(description="Id of the run.")
    attempt: int = Field(
        description="Number of the attempt that wrote it, which is its fencing token."
    )
    started_at: datetime = Field(description="When that attempt began.")
    seconds: float = Field(description="How long the attempt took.")
    inputs: dict[str, str] = Field(description="Digest by input: the config and each step read.")
    artifacts: dict[str, Artifact] = Field({}, description="What the step made, by name.")
    metrics: dict[str, float] = Field(
        {}, description="Numbers about the step, by name; they go to MLflow."
    )
    reasons: tuple[str, ...] = Field((), description="Messages about the outcome, for people.")
    detail: dict[str, Any] = Field({}, description="The step's own record, as written.")
    tracking_run_id: str = Field("", description="MLflow's id of the step's run, if tracked.")

    def detail_as(self, record: type[RecordT]) -> RecordT:
        """Return the step's own record."""
        return record.model_validate(self.detail)

    @property
    def digest(self) -> str:
        """One digest for everything that later steps read of this one."""
        parts = [f"{name}={a.digest}" for name, a in sorted(self.artifacts.items())]
        return ";".join(parts)


class Failure(Record):
    """How a step's attempt ended that left no result; the next attempt makes it history."""

    step: str = Field(description="Name of the step.")
    attempt: int = Field(description="Number of the attempt that failed.")
    exit_code: int = Field(description="Of its process: 1 may be retried, 2 may not.")
    reason: str = Field(description="The error message.")
    failed_at: datetime = Field(description="When it ended.")


class EndedBy(Record):
    """Who ended a run before its last step: a person at a terminal, or a signal of the machine."""

    who: str = Field(description="Name of the user, or of the signal.")
    is_person: bool = Field(description="Whether it was a user at a terminal.")
    ended_at: datetime = Field(description="When the run ended.")


class StartedAs(Record):
    """What a run without Airflow was started as; a resumed one is the same."""

    redeploy_version: int | None = Field(
        None, description="Kept version that it deploys again; null: it trains a new one."
    )
    is_deploying: bool = Field(description="Whether it continues with canary and promotion.")
