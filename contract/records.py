"""What steps hand on and services exchange: small, typed, versioned JSON documents."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import DataError, NotFoundError
from contract.schema import SPLITS, FeatureConfig, HeadConfig, ServeConfig
from contract.storage import write_atomically

RecordT = TypeVar("RecordT", bound="Record")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

Percent = Annotated[int, Field(ge=0, le=100)]
Decision = Literal["pass", "fail", "continue"]


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

    record_version: int = 0

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        version = raw.get("record_version", cls.current_version)
        if version > cls.current_version:
            raise ValueError(
                f"record_version {version} is newer than this Slipway reads "
                f"({cls.current_version}); upgrade Slipway"
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
        except (ValidationError, ValueError) as error:
            raise DataError(f"{path}: not a {cls.__name__}: {error}") from error

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_atomically(path, self.model_dump_json(indent=2))


# --- a step's result ----------------------------------------------------------------------------


class Artifact(Record):
    """Something that a step made. `path` is relative to the step's folder."""

    path: str
    digest: str
    size_bytes: int


class Result(Record):
    """`result.json`: a step has succeeded if and only if this is there and is its own."""

    step: str
    pipeline: str
    run_id: str
    attempt: int
    started_at: datetime
    seconds: float
    inputs: dict[str, str] = Field(description="Digest by input: the config and each step read.")
    artifacts: dict[str, Artifact] = {}
    metrics: dict[str, float] = {}
    reasons: tuple[str, ...] = ()
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


class IngestRecord(Record):
    """Raw examples: shards by split, relative to the step's folder.

    Each tf.Example holds the features under their own names (missing values absent), per head
    `label:<head>` (int64 class index, or float32), `example_id` (bytes, hex digest of the key),
    and `weight` (float32) where the config names one.
    """

    shards: dict[str, tuple[str, ...]]
    examples: dict[str, int]
    bad_rows: int = 0
    bad_row_reasons: dict[str, int] = {}
    dead_letter: str = ""
    label_deltas: tuple[str, ...] = ()
    columns: tuple[str, ...] = Field((), description="Of the source, used or not.")


class Anomaly(Record):
    """One way in which the data is not what it was or should be."""

    feature: str
    kind: Literal[
        "missing_column", "new_column", "type", "range", "missing", "new_category", "drift"
    ]
    message: str
    value: float | None = None
    limit: float | None = None
    is_fatal: bool = False


class ValidateRecord(Record):
    """Statistics and schema, relative to the step's folder, and what was found wrong."""

    statistics: str
    data_schema: str
    anomalies: tuple[Anomaly, ...] = ()
    compared_with_run: str = ""


class TransformRecord(Record):
    """Transformed examples and the transform graph, relative to the step's folder.

    Shards hold the transformed features, `label:<head>`, `example_id`, `weight` where there is
    one, and `slice:<feature>` (bytes, as text) for each slice.
    """

    transform_graph: str
    shards: dict[str, tuple[str, ...]]
    examples: dict[str, int]


class CheckpointManifest(Record):
    """A published checkpoint: written last, so that whoever sees it sees a whole checkpoint."""

    step: int
    files: dict[str, str] = Field(description="Digest by file name.")
    written_at: datetime
    metrics: dict[str, float] = {}


class TrainingEnded(Record):
    """No more checkpoints will come."""

    has_succeeded: bool
    last_step: int
    reason: str
    ended_at: datetime


class TrainRecord(Record):
    """What training left."""

    last_step: int
    checkpoints: tuple[int, ...]
    parameters: int = 0
    resumed_from_step: int = 0


class Divergence(Record):
    """The step that made a training's numbers infinite or NaN; its batch is kept beside."""

    step: int
    layer: str = Field(description="Layer, variable or input; `loss` if only that.")
    what: str
    rows: tuple[int, ...] = Field((), description="Of the batch, where rows show it.")


class Metric(Record):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


class Curve(Record):
    """Points of a curve, in order; at most some hundred."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Curves(Record):
    """What one head's pictures are drawn from; every count is of example weights.

    For several classes `roc` and `precision_recall` are one-versus-rest over all of them (micro).
    """

    confusion: tuple[tuple[float, ...], ...] = Field(
        (), description="[true][predicted]; empty for regression and for very many classes."
    )
    roc: Curve | None = Field(None, description="False positive over true positive rate.")
    precision_recall: Curve | None = Field(None, description="Recall over precision.")
    reliability: Curve | None = Field(
        None,
        description="By tenths of the examples: mean probability (of class 1, or of the class "
        "called) over its share in truth; regression: mean prediction over mean label.",
    )


class Verdict(Record):
    """The one judgement of one checkpoint on the eval part."""

    step: int
    examples: int
    metrics: dict[str, dict[str, Metric]] = Field(description="By head, then metric.")
    slices: dict[str, dict[str, dict[str, Metric]]] = Field(
        {}, description="By 'feature=value', then head, then metric."
    )
    curves: dict[str, Curves] = Field({}, description="By head.")
    judged_at: datetime
    lag_seconds: float = Field(description="From checkpoint written to verdict.")
    judge_seconds: float = Field(0.0, description="Of it, what loading and judging took.")
    judged_by: str = Field("", description="<replica>.<attempt>")
    checkpoint: str = Field("", description="Digest of the manifest of what was judged.")


class EvaluateRecord(Record):
    """All verdicts of a run."""

    steps: tuple[int, ...]
    best_step: int
    max_lag_seconds: float = 0.0
    p95_lag_seconds: float = 0.0


class BlessRecord(Record):
    """Whether the candidate may go on; `candidate` is a SavedModel in the step's folder."""

    is_blessed: bool
    candidate: str
    step: int
    champion_version: int | None = Field(description="What it was compared with; null: nothing.")
    metrics: dict[str, dict[str, Metric]] = {}
    champion_metrics: dict[str, dict[str, Metric]] = {}
    detectable_difference: float | None = Field(
        None, description="The smallest true difference that would have been seen (80 % power)."
    )
    reasons: tuple[str, ...]


class LedgerRow(Record):
    """What one optimisation pass did, and whether it was kept.

    Differences are to the original's answers, over all signatures and float outputs; sizes are
    of the SavedModel as it lies on disk. Figures that were not taken are null.
    """

    name: str
    is_kept: bool
    reason: str = ""
    operations: int = 0
    operation_changes: dict[str, int] = Field({}, description="By kind of node, without zeros.")
    size_bytes: int = 0
    compressed_bytes: int = Field(0, description="The same files in one DEFLATE stream.")
    latency_ms_batch_1: float = 0.0
    latency_ms_batch_32: float = 0.0
    max_difference: float = 0.0
    mean_difference: float = 0.0
    max_relative_difference: float = Field(
        0.0, description="Relative to the largest magnitude of that output over all rows."
    )
    agreement_ratio: float | None = Field(None, description="Rows with the same predicted class.")
    metric: float | None = Field(None, description="`OptimizeRecord.metric` on the eval rows.")
    metric_difference: Metric | None = Field(None, description="To the original's, paired.")
    float_layers: tuple[str, ...] = Field((), description="Left in float to meet the budget.")
    cold_start_seconds: float | None = Field(
        None, description="Loading and the first answer in a fresh process; no imports."
    )
    peak_memory_bytes: int | None = Field(
        None, description="What loading and answering 32 rows add to a fresh process."
    )
    seconds: float = Field(0.0, description="What rewriting and judging took.")


class TensorRange(Record):
    """What values a tensor took on the calibration rows, and the range that int8 should span."""

    tensor: str = Field(description="In the float model's graph, as 'node:0'.")
    layer: str = Field(description="The node that reads it.")
    low: float
    high: float
    seen_low: float
    seen_high: float


class TensorDescription(Record):
    """One named tensor. `shape` begins with the batch; null is any size; no shape: any rank."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


class RuntimeFiles(Record):
    """`runtime.json`: a model for another runtime than TensorFlow; paths are relative to it.

    The core takes and gives dense numbers. What it does not get from the caller comes from the
    front: a SavedModel with the text, tables and ragged rows, which the server runs in TensorFlow.
    """

    engine: Literal["openvino", "litert"]
    precision: Literal["fp32", "bf16", "int8"]
    core: str = Field(description="The engine's own file.")
    front: str = Field("", description="A SavedModel; empty where the core takes all inputs.")
    core_inputs: tuple[str, ...] = Field(description="The file's own names.")
    core_outputs: tuple[str, ...] = Field(description="The file's own names.")
    inputs: tuple[TensorDescription, ...] = Field(description="Of the serving signature.")
    outputs: tuple[TensorDescription, ...] = Field(description="Of the serving signature.")


class RuntimeMeasurement(Record):
    """One runtime tried in a process of its own that loads the model as a server does."""

    name: str
    is_eligible: bool = Field(description="Answers alike and keeps to the limits.")
    reason: str = Field("", description="Why it was left out.")
    size_bytes: int = 0
    start_seconds: float = Field(0.0, description="From process start until warm.")
    start_cpu_seconds: float = 0.0
    memory_mb: float = Field(0.0, description="Resident, loaded and warm.")
    p50_ms_batch_1: float = 0.0
    p99_ms_batch_1: float = 0.0
    p50_ms_batch_32: float = 0.0
    rows_per_second: float = Field(0.0, description="At batch 32.")
    cpu_ms_batch_1: float = Field(0.0, description="Of one call, all threads together.")
    cpu_ms_batch_32: float = Field(0.0, description="Of one call, all threads together.")
    max_difference: float = Field(
        0.0, description="From the float SavedModel's answers: absolute below 1, relative above."
    )
    agreement_ratio: float = Field(1.0, description="Sample rows with the same predicted class.")


class ServedRuntime(Record):
    """What runs a model, and the table by which it was chosen. `path` is empty for TensorFlow."""

    name: str = "tensorflow"
    path: str = ""
    digest: str = ""
    tolerance: float = Field(
        0.0,
        description="How far its answers may be from the float SavedModel's, as `max_difference`; "
        "0 says: no further than TensorFlow's from its own.",
    )
    measured: tuple[RuntimeMeasurement, ...] = ()
    reason: str = ""
    exports: dict[str, str] = Field({}, description="Files for elsewhere, by name.")
    exports_left_out: dict[str, str] = Field({}, description="Why one was not made, by name.")

    @property
    def trial(self) -> RuntimeMeasurement | None:
        """What was measured of the one that was chosen, if any was tried."""
        return next((row for row in self.measured if row.name == self.name), None)

    @property
    def artifacts(self) -> dict[str, str]:
        """What `optimize` leaves beside the model, by name."""
        runtime = {"runtime": self.path} if self.path else {}
        return runtime | {f"export_{name}": path for name, path in self.exports.items()}


class OptimizeRecord(Record):
    """The optimised SavedModel, relative to the step's folder. The first row is the original."""

    model: str
    float_model: str = Field(
        "", description="After the float passes only; empty where `model` is that one."
    )
    ledger: tuple[LedgerRow, ...] = Field(description="The last row is the whole.")
    metric: str = Field("", description="What lossy passes are judged by, as 'accuracy of digit'.")
    budget_percent: float = 0.0
    calibration: tuple[TensorRange, ...] = ()
    runtime: ServedRuntime = ServedRuntime()


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


class Provenance(Record):
    """Where a package comes from."""

    run_id: str
    git_commit: str
    data_digests: dict[str, str]
    versions: dict[str, str] = Field(description="Of Python and the libraries that matter.")
    from_version: int | None = Field(None, description="The version that this one repeats.")


class PackageManifest(Record):
    """`package.json`: everything that a server needs to know. `model` is relative to it."""

    pipeline: str
    version: int
    created_at: datetime
    model: str = "model"
    digest: str = Field(description="Of the model directory.")
    examples: str = Field("", description="Some rows as callers send them, JSON lines; or none.")
    inputs: dict[str, InputSpec]
    heads: dict[str, HeadConfig]
    serve: ServeConfig
    runtime: ServedRuntime = ServedRuntime()
    metrics: dict[str, float] = {}
    compared_with_version: int | None = None
    provenance: Provenance


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


class PackageRecord(Record):
    """The package made by a run: `versions/<version>/`."""

    version: int
    digest: str
    load: LoadReport
    max_skew: float
    skew_tolerance: float = Field(
        0.0, description="What it had to be within: package.skew_tolerance, or the runtime's own."
    )
    skew_skipped_because: str = Field("", description="If not empty, no skew was measured.")


# --- traffic ------------------------------------------------------------------------------------


class Arm(Record):
    """A share of the traffic that goes to one version."""

    name: Literal["stable", "canary"]
    version: int
    weight_percent: Percent


class Shadow(Record):
    """A version that sees a copy of the traffic; nobody sees its answers."""

    version: int
    percent: Percent
    max_concurrent_requests: int = 32


class TrafficPlan(Record):
    """Who should answer. Proposed by compare-and-set of `generation`; 0 means nothing yet."""

    pipeline: str
    generation: int = 0
    arms: tuple[Arm, ...] = ()
    shadow: Shadow | None = None
    standby: tuple[int, ...] = Field((), description="Kept running without traffic.")
    author: str = ""
    reason: str = ""
    written_at: datetime | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = sum(arm.weight_percent for arm in self.arms)
        if self.arms and total != 100:
            raise ValueError(f"weights must sum to 100 percent, found {total}")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("arm names repeat")
        if len({arm.version for arm in self.arms}) != len(self.arms):
            raise ValueError("arm versions repeat")
        return self

    @property
    def champion(self) -> int | None:
        """The version of the stable arm."""
        return next((arm.version for arm in self.arms if arm.name == "stable"), None)

    @property
    def canary(self) -> Arm | None:
        """The arm on trial, if any."""
        return next((arm for arm in self.arms if arm.name == "canary"), None)

    @property
    def versions(self) -> frozenset[int]:
        """Every version that must run."""
        shadow = {self.shadow.version} if self.shadow else set()
        return frozenset({arm.version for arm in self.arms} | shadow | set(self.standby))


class ArmObservation(Record):
    """Counters of one version since its traffic began; they only grow, unless Envoy restarts."""

    version: int
    is_ready: bool
    requests: int = 0
    errors: int = 0
    latency_bounds_ms: tuple[float, ...] = Field((), description="Upper bounds, rising.")
    latency_counts: tuple[int, ...] = Field((), description="Cumulative, one per bound.")
    compared: int = Field(0, description="Shadow answers paired with the stable arm's.")
    disagreements: int = Field(0, description="Pairs that predict another class.")


class Observation(Record):
    """What the agent sees. `generation` is the plan that the data plane has taken over."""

    pipeline: str
    generation: int
    observed_at: datetime
    versions: tuple[ArmObservation, ...] = ()
    problems: tuple[str, ...] = ()

    def of(self, version: int) -> ArmObservation | None:
        """Return a version's counters, if it runs."""
        return next((seen for seen in self.versions if seen.version == version), None)


class LadderStep(Record):
    """What the judge saw on one rung."""

    name: str
    weight_percent: Percent
    requests: int
    errors: int
    decision: Literal["pass", "rollback", "inconclusive"]
    reason: str
    seconds: float


class DeployRecord(Record):
    """How a stage of the deployment ended."""

    stage: Literal["canary", "promote"]
    outcome: Literal["passed", "first", "promoted", "rolled_back", "inconclusive", "refused"]
    version: int
    champion_version: int | None = None
    canary_requests: int = 0
    canary_errors: int = 0
    ladder: tuple[LadderStep, ...] = ()
    reasons: tuple[str, ...] = ()


class Stack(Record):
    """`stack.json`: the services of this machine, written by `slipway up`. Secrets are in files."""

    airflow_url: str = ""
    airflow_user: str = ""
    airflow_password_file: str = ""
    tracking_uri: str = ""
    agent_url: str = ""
    agent_token_file: str = ""
    data_plane_url: str = ""
    data_plane_token_file: str = Field("", description="Callers must send its content; or empty.")
    data_plane_certificate_file: str = Field("", description="What callers trust, if it is TLS.")
    root: str


def empty_splits() -> dict[str, int]:
    """Return a zero count for each split."""
    return dict.fromkeys(SPLITS, 0)
