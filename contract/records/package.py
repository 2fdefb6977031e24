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

    dtype: Literal["float32", "int64", "string"] = Field(description="Type of its values.")
    shape: tuple[int, ...] = Field(
        (), description="Size of each axis of one row; empty for a scalar."
    )
    is_variable_length: bool = Field(
        False, description="Whether rows may have any number of values."
    )
    default: str | float | int | bool | None = Field(
        None, description="Value where callers send none; null: callers must send it."
    )

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


class TensorSpec(Record):
    """A tensor of an imported model's signature."""

    dtype: str = Field(description="Type of its values, as TensorFlow names it.")
    shape: tuple[int | None, ...] | None = Field(
        description="Size of each axis, null where it may be any; null: any shape."
    )


class SignatureSpec(Record):
    """A signature of an imported model."""

    method: Literal["predict", "classify", "regress"] = Field(
        description="What it was made for, in TensorFlow Serving's words."
    )
    inputs: dict[str, TensorSpec] = Field(description="What it takes, by the callers' names.")
    outputs: dict[str, TensorSpec] = Field(description="What it answers, by the callers' names.")


IMPORT_PREFIX = "import-"  # of the id under which the trial of an imported version is recorded


class Provenance(Record):
    """Where a package comes from."""

    run_id: str = Field(description="Id of the run that packaged it.")
    git_commit: str = Field(description="Commit of the checkout; empty if there is none.")
    data_digests: dict[str, str] = Field(
        description="Digest of each artifact that the model was made from, by name."
    )
    versions: dict[str, str] = Field(description="Of Python and the libraries that matter.")
    from_version: int | None = Field(None, description="The version that this one repeats.")

    @property
    def has_run(self) -> bool:
        """Whether a run of a pipeline packaged it, rather than `slipway package`."""
        return not self.run_id.startswith(IMPORT_PREFIX)


class PackageManifest(Record):
    """`package.json`: everything that a server needs to know. `model` is relative to it."""

    current_version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Upgrade]] = {1: renamed("runtime", "engine")}

    pipeline: str = Field(description="Name of the pipeline, by which callers ask for it.")
    version: int = Field(description="Its number; no other package of the pipeline has it.")
    created_at: datetime = Field(description="When it was packaged.")
    model: str = Field("model", description="Folder of the SavedModel, relative to this document.")
    format: Literal["pipeline", "saved_model", "litert"] = Field(
        "pipeline",
        description="'pipeline': a SavedModel that a pipeline made; the others were imported from "
        "elsewhere, and are served as TensorFlow Serving serves them.",
    )
    signatures: dict[str, SignatureSpec] = Field(
        {}, description="Of an imported model, by name; its 'inputs' and 'heads' are empty."
    )
    digest: str = Field(description="Of the model directory.")
    examples: str = Field("", description="Some rows as callers send them, JSON lines; or none.")
    examples_signature: str = Field(
        "", description="Which signature of an imported model the examples are for."
    )
    inputs: dict[str, InputSpec] = Field(description="What callers send, by feature.")
    heads: dict[str, HeadConfig] = Field(description="What the model predicts, by head.")
    serve: ServeConfig = Field(description="Settings of its server.")
    engine: ServedEngine = Field(ServedEngine(), description="Which engine serves it, and why.")
    metrics: dict[str, float] = Field(
        {},
        description="On the test split, by name, or '<head>/<name>' where there are several heads.",
    )
    compared_with_version: int | None = Field(
        None, description="Version that it was blessed against; null: none."
    )
    provenance: Provenance = Field(description="Where it comes from.")

    @property
    def is_imported(self) -> bool:
        """Whether no pipeline made the model."""
        return self.format != "pipeline"

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

    requests: int = Field(description="Requests answered or failed.")
    errors: int = Field(description="Requests that failed, among them.")
    seconds: float = Field(description="How long the test took.")
    requests_per_second: float = Field(description="Requests divided by seconds.")
    p50_ms: float = Field(description="Median time of an answer.")
    p95_ms: float = Field(description="95th percentile of the time of an answer.")
    p99_ms: float = Field(description="99th percentile of the time of an answer.")
    percentiles_ms: dict[str, float] = Field(
        {},
        description="Time of an answer by percentile, from '0' (the fastest) to '100' (the "
        "slowest); empty in older reports.",
    )
    first_error: str = Field("", description="What the first failed request got.")
    spans_ms: dict[str, float] = Field(
        {},
        description="Mean time of each part of an answer at the server, in milliseconds: "
        "transform_request, queue, predict, transform_response.",
    )


class UnansweredInput(Record):
    """Something that callers may send and the model does not answer: they get 400."""

    feature: str = Field(description="Empty if several are concerned.")
    what: str = Field(description="The value in words.")
    signature: str = Field(description="Signature that was called.")
    reason: str = Field(description="What callers are told.")


class CallersReport(Record):
    """The package tried with what callers may send, besides rows of the data."""

    rows: int = Field(description="Number of rows sent, through each signature.")
    signatures: tuple[str, ...] = Field(description="Signatures that were called.")
    unanswered: tuple[UnansweredInput, ...] = Field(
        (), description="What the model does not answer."
    )
    left_out: dict[str, str] = Field({}, description="Engines that are not served, and why.")


class PackageRecord(Record):
    """The package made by a run: `versions/<version>/`."""

    version: int = Field(description="Number of the version made.")
    digest: str = Field(description="'sha256:' and the digest of its model.")
    load: LoadReport = Field(description="What the load test saw.")
    max_skew: float = Field(
        description="Of all rows; above `skew_tolerance` only in rows that the engine's accuracy "
        "budget exempts."
    )
    skew_tolerance: float = Field(
        0.0,
        description="What it had to be within: package.skew_tolerance, or the engine's tolerance.",
    )
    skew_skipped_because: str = Field("", description="If not empty, no skew was measured.")
    callers: CallersReport | None = Field(
        None, description="What callers may send and how it is answered; null: not tried."
    )
