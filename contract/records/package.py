"""A package: all that a server needs to know."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from contract.records.optimization import ServedEngine
from contract.records.record import Record, Upgrade, renamed
from contract.schema.data import FeatureConfig, HeadConfig
from contract.schema.serving import ServeConfig


class InputSpec(Record):
    """One raw input of the serving signature."""

    dtype: Literal["float32", "int64", "string"]
    shape: tuple[int, ...] = ()
    is_variable_length: bool = False
    default: str | float | int | bool | None = None

    @classmethod
    def of(cls, feature: FeatureConfig) -> "InputSpec":
        fields = ("dtype", "shape", "is_variable_length", "default")
        return cls(**{field: getattr(feature, field) for field in fields})

    @property
    def padding(self) -> str | int | float:
        """What fills up the shorter rows of a variable-length input, dense [batch, longest].

        Values that no caller can mean: empty text, the least int64, NaN. They are dropped inside
        the signature, wherever they stand.
        """
        paddings: dict[str, str | int | float] = {
            "string": "",
            "int64": -(2**63),
            "float32": float("nan"),
        }
        return paddings[self.dtype]

    @property
    def filler(self) -> bytes | int | float:
        """The padding as it stands in an array, where text is bytes."""
        return self.padding.encode() if isinstance(self.padding, str) else self.padding


class Provenance(Record):
    """Where a package comes from."""

    run_id: str
    git_commit: str
    data_digests: dict[str, str]
    versions: dict[str, str] = Field(description="Of Python and the libraries that matter.")
    from_version: int | None = Field(None, description="The version that this one repeats.")


class PackageManifest(Record):
    """`package.json`: everything that a server needs to know. `model` is relative to it."""

    current_version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Upgrade]] = {1: renamed("runtime", "engine")}

    pipeline: str
    version: int
    created_at: datetime
    model: str = "model"
    digest: str = Field(description="Of the model directory.")
    examples: str = Field("", description="Some rows as callers send them, JSON lines; or none.")
    inputs: dict[str, InputSpec]
    heads: dict[str, HeadConfig]
    serve: ServeConfig
    engine: ServedEngine = ServedEngine()
    metrics: dict[str, float] = Field({})
    compared_with_version: int | None = None
    provenance: Provenance

    @property
    def own_errors(self) -> dict[str, float]:
        """The root mean squared error on the test split, by regression head; what is known of it.

        Two answers that differ by less are the same answer, as far as this model can tell.
        """
        names = {name: f"{name}/rmse" if len(self.heads) > 1 else "rmse" for name in self.heads}
        regressions = (name for name, head in self.heads.items() if head.task == "regression")
        return {
            name: self.metrics[names[name]] for name in regressions if names[name] in self.metrics
        }


class LoadReport(Record):
    """What a load test saw."""

    requests: int
    errors: int
    seconds: float
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    first_error: str = Field("", description="What the first failed request got.")


class UnansweredInput(Record):
    """Something that callers may send and the model does not answer: they get 400."""

    feature: str = Field(description="Empty where it is no single one.")
    what: str = Field(description="The value in words.")
    signature: str
    reason: str = Field(description="What callers are told.")


class CallersReport(Record):
    """The package tried with what callers may send, besides rows of the data."""

    rows: int
    signatures: tuple[str, ...]
    unanswered: tuple[UnansweredInput, ...] = ()
    left_out: dict[str, str] = Field({}, description="Engines that are not served, and why.")


class PackageRecord(Record):
    """The package made by a run: `versions/<version>/`."""

    version: int
    digest: str
    load: LoadReport
    max_skew: float = Field(
        description="Of all rows; above `skew_tolerance` only in rows that the engine's accuracy "
        "budget exempts."
    )
    skew_tolerance: float = Field(
        0.0,
        description="What it had to be within: package.skew_tolerance, or the engine's tolerance.",
    )
    skew_skipped_because: str = Field("", description="If not empty, no skew was measured.")
    callers: CallersReport | None = None
