"""What the optimiser leaves: the ledger, calibration, the engines tried."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from contract.layout import ENGINE_FILES
from contract.records.evaluation import Metric
from contract.records.record import Record, Upgrade, renamed

_OLD_ENGINE_FILES = "runtime.json"  # the name that 0.1.0 gave them


class LedgerRow(Record):
    """What one optimisation pass did, and whether it was kept.

    Differences are to the original's answers, over all signatures and float outputs; sizes are
    of the SavedModel as it lies on disk. Figures that were not taken are null.
    """

    name: str = Field(
        description="Name of the pass; 'original' and 'whole' are the first and the last row."
    )
    is_kept: bool = Field(description="Whether the pass stays in the result.")
    reason: str = Field("", description="Why it was undone; empty if it is kept.")
    operations: int = Field(0, description="Number of nodes in the graphs after it.")
    operation_changes: dict[str, int] = Field({}, description="By kind of node, without zeros.")
    size_bytes: int = Field(0, description="Of the SavedModel on disk.")
    compressed_bytes: int = Field(0, description="The same files in one DEFLATE stream.")
    latency_ms_batch_1: float = Field(0.0, description="Median time of a call with 1 row.")
    latency_ms_batch_32: float = Field(0.0, description="Median time of a call with 32 rows.")
    max_difference: float = Field(0.0, description="Largest difference of an answer.")
    mean_difference: float = Field(0.0, description="Mean difference of the answers.")
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
    low: float = Field(description="Lower end of the range that int8 spans.")
    high: float = Field(description="Upper end of the range that int8 spans.")
    seen_low: float = Field(description="Smallest value on the calibration rows.")
    seen_high: float = Field(description="Largest value on the calibration rows.")


class TensorDescription(Record):
    """One named tensor. `shape` begins with the batch; null is any size; no shape: any rank."""

    name: str = Field(description="Name of the tensor.")
    dtype: str = Field(description="Type of its values, as in 'float32'.")
    shape: tuple[int | None, ...] | None = Field(
        description="Size of each axis, the batch first; null is any size. No shape is any rank."
    )


class EngineFiles(Record):
    """`engine.json`: a model for another engine than TensorFlow; paths are relative to it.

    The core takes and gives dense numbers. What it does not get from the caller comes from the
    front: a SavedModel with the text, tables and ragged rows, which the server runs in TensorFlow.
    """

    engine: Literal["openvino", "litert"] = Field(description="Which engine executes the core.")
    precision: Literal["fp32", "bf16", "int8"] = Field(
        description="Type of the numbers that it computes with."
    )
    core: str = Field(description="The engine's own file.")
    front: str = Field("", description="A SavedModel; empty where the core takes all inputs.")
    core_inputs: tuple[str, ...] = Field(description="The file's own names.")
    core_outputs: tuple[str, ...] = Field(description="The file's own names.")
    inputs: tuple[TensorDescription, ...] = Field(description="Of the serving signature.")
    outputs: tuple[TensorDescription, ...] = Field(description="Of the serving signature.")
    index_limits: dict[str, tuple[int, int]] = Field(
        {}, description="The least and the largest value of core inputs that tables are read at."
    )

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Read the description in an engine's folder.

        Raises:
            NotFoundError: If there is none.
            DataError: If it is not one.
        """
        old = folder / _OLD_ENGINE_FILES
        return cls.read(old if old.is_file() else folder / ENGINE_FILES)


class Machine(Record):
    """What computes. Figures from one kind say little about another."""

    cpu: str = Field(description="Its model, as the kernel names it.")
    flags: tuple[str, ...] = Field(description="Its vector and matrix units, of those known.")


class EngineMeasurement(Record):
    """One engine, tried in a separate process that loads the model as a server does."""

    name: str = Field(
        description="Name of the engine, with '_int8' or '_bf16' for less than float32."
    )
    is_eligible: bool = Field(description="Answers alike and keeps to the limits.")
    reason: str = Field("", description="Why it was left out.")
    size_bytes: int = Field(0, description="Of its files.")
    start_seconds: float = Field(0.0, description="From process start until warm.")
    start_cpu_seconds: float = Field(0.0, description="CPU time of the same, all threads together.")
    memory_mb: float = Field(0.0, description="Resident, loaded and warm.")
    p50_ms_batch_1: float = Field(0.0, description="Median time of a call with 1 row.")
    p99_ms_batch_1: float = Field(
        0.0, description="99th percentile of the time of a call with 1 row."
    )
    p50_ms_batch_32: float = Field(0.0, description="Median time of a call with 32 rows.")
    rows_per_second: float = Field(0.0, description="At batch 32.")
    cpu_ms_batch_1: float = Field(0.0, description="Of one call, all threads together.")
    cpu_ms_batch_32: float = Field(0.0, description="Of one call, all threads together.")
    max_difference: float = Field(
        0.0, description="From the float SavedModel's answers: absolute below 1, relative above."
    )
    agreement_ratio: float = Field(1.0, description="Sample rows with the same predicted class.")
    cost_points: float | None = Field(
        None, description="Of bf16 and int8, what they lose on the eval rows, as a lossy pass."
    )
    metric: float | None = Field(None, description="`OptimizeRecord.metric` on the eval rows.")
    metric_difference: Metric | None = Field(None, description="To the float model's, paired.")
    float_layers: tuple[str, ...] = Field((), description="Left in float to meet the limit.")
    machine: Machine | None = Field(None, description="Where it was measured.")


class FallbackEngine(Record):
    """An engine that serves if `package` leaves out the better ones: what `ServedEngine` says."""

    name: str = Field(description="Name of the engine, as among `measured`.")
    path: str = Field(description="Folder with its `engine.json`, relative to the record.")
    digest: str = Field(description="'sha256:' and the digest of that folder.")
    tolerance: float = Field(description="As of `ServedEngine`.")
    exempt_ratio: float = Field(description="As of `ServedEngine`.")
    reason: str = Field(description="Why it was chosen among those left.")


class ServedEngine(Record):
    """What runs a model, and the table by which it was chosen. `path` is empty for TensorFlow."""

    name: str = Field("tensorflow", description="Name of the engine, as among `measured`.")
    path: str = Field(
        "",
        description="Folder with its `engine.json`, relative to the record; empty for TensorFlow.",
    )
    digest: str = Field("", description="'sha256:' and the digest of that folder.")
    tolerance: float = Field(
        0.0,
        description="How far its answers may be from the float SavedModel's, as `max_difference`; "
        "0 says: no further than TensorFlow's from its own.",
    )
    exempt_ratio: float = Field(
        0.0,
        description="Of one that computes in less than float32: the share of rows that may be "
        "further, which is its accuracy budget.",
    )
    measured: tuple[EngineMeasurement, ...] = Field((), description="Every engine that was tried.")
    reason: str = Field("", description="Why this one was chosen.")
    fallbacks: tuple[FallbackEngine, ...] = Field(
        (), description="The next best engines, the best first; after the last TensorFlow serves."
    )
    exports: dict[str, str] = Field({}, description="Files for use outside Slipway, by name.")
    exports_left_out: dict[str, str] = Field({}, description="Why one was not made, by name.")

    @property
    def is_reduced(self) -> bool:
        """Whether it computes in less than float32, or its weights have lost digits."""
        has_lost_digits = self.name == "tensorflow" and self.tolerance > 0.0
        return has_lost_digits or self.name.endswith(("_int8", "_bf16"))

    @property
    def trial(self) -> EngineMeasurement | None:
        """What was measured of the one that was chosen, if any was tried."""
        return next((row for row in self.measured if row.name == self.name), None)

    @property
    def artifacts(self) -> dict[str, str]:
        """What `optimize` leaves beside the model, by name."""
        engine = {"engine": self.path} if self.path else {}
        engine |= {f"fallback_{one.name}": one.path for one in self.fallbacks}
        return engine | {f"export_{name}": path for name, path in self.exports.items()}


class OptimizeRecord(Record):
    """The optimised SavedModel, relative to the step's folder. The first row is the original."""

    current_version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Upgrade]] = {1: renamed("runtime", "engine")}

    model: str = Field(
        description="Folder of the optimised SavedModel, relative to the step's folder."
    )
    float_model: str = Field(
        "", description="After the float passes only; empty where `model` is that one."
    )
    ledger: tuple[LedgerRow, ...] = Field(description="The last row is the whole.")
    metric: str = Field("", description="What lossy passes are judged by, as 'accuracy of digit'.")
    budget_percent: float = Field(
        0.0, description="Loss that a lossy pass may cost, in points of `metric`."
    )
    calibration: tuple[TensorRange, ...] = Field(
        (), description="Ranges of the tensors that int8 quantises."
    )
    engine: ServedEngine = Field(ServedEngine(), description="Which engine serves the model.")
