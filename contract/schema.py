"""The typed form of `pipeline.yaml`: every key, its unit, its range and its one default."""

import itertools
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from contract.cluster_schema import KubernetesConfig
from contract.optimize_schema import DEFAULT_PASSES, LOSSY_PASSES, Passes

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Scalar = str | int | float | bool

SPLITS = ("train", "eval", "test")


class Section(BaseModel):
    """Base of every config section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", serialize_by_alias=True, validate_by_name=True
    )


# --- what the data is ---------------------------------------------------------------------------


class CsvSource(Section):
    """Comma-separated text, one row a line."""

    kind: Literal["csv"]
    files: Annotated[tuple[str, ...], Field(min_length=1, description="Paths or globs.")]
    columns: tuple[str, ...] | None = Field(
        None, description="Names, where the file has no header."
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    is_stripped: bool = Field(True, description="Remove white space around each cell.")
    missing: tuple[str, ...] = Field(("",), description="Cells that mean 'no value'.")


class ParquetSource(Section):
    """Parquet files; their column names must be those of the features and labels."""

    kind: Literal["parquet"]
    files: Annotated[tuple[str, ...], Field(min_length=1, description="Paths or globs.")]


class IdxSource(Section):
    """A pair of IDX files as MNIST uses (gzip or plain): columns `image` and `label`."""

    kind: Literal["idx"]
    images: str
    labels: str


class SklearnSource(Section):
    """A data set that ships inside scikit-learn; images are column `image`, labels `label`."""

    kind: Literal["sklearn"]
    dataset: Literal["digits", "iris", "wine", "breast_cancer"]


Source = Annotated[
    CsvSource | ParquetSource | IdxSource | SklearnSource, Field(discriminator="kind")
]


class FeatureConfig(Section):
    """One raw input column, as callers will send it and `preprocessing_fn` will receive it."""

    dtype: Literal["float32", "int64", "string"]
    shape: tuple[Count, ...] = Field((), description="Shape of one example; () is a scalar.")
    is_variable_length: bool = Field(False, description="A list of any length (words, ids).")
    separator: str = Field(" ", description="What separates the items of a list in a CSV cell.")
    default: Scalar | None = Field(
        None,
        description="Used where the value is missing; without one a missing value is an error.",
    )
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_variable_length and self.shape:
            raise ValueError("a variable-length feature has no shape; remove one of the two")
        if self.default is not None and (self.shape or self.is_variable_length):
            raise ValueError("only a scalar feature can have a default")
        wanted = {"float32": (int, float), "int64": (int,), "string": (str,)}[self.dtype]
        if self.default is not None and (
            isinstance(self.default, bool) or not isinstance(self.default, wanted)
        ):
            raise ValueError(f"default {self.default!r} is not a {self.dtype}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class HeadConfig(Section):
    """One thing the model predicts."""

    task: Literal["binary_classification", "multiclass_classification", "regression"]
    column: str = Field("", description="The label's column; the head's own name if empty.")
    classes: tuple[str, ...] = Field(
        (), description="Labels in order of the model's outputs, as text; the second is 'positive'."
    )
    strip: str = Field("", description="Characters removed around the label ('.' for census).")
    loss_weight: Annotated[float, Field(gt=0.0)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task == "regression" and self.classes:
            raise ValueError("a regression head has no classes")
        if self.task == "binary_classification" and len(self.classes) != 2:
            raise ValueError(f"needs exactly 2 classes, found {len(self.classes)}")
        if self.task == "multiclass_classification" and len(self.classes) < 2:
            raise ValueError(f"needs at least 2 classes, found {len(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes repeat")
        return self

    @property
    def output_size(self) -> int:
        """Width of the model's output for this head: 1 for binary (a logit) and regression."""
        return len(self.classes) if self.task == "multiclass_classification" else 1


# --- what the components do ---------------------------------------------------------------------


class SplitConfig(Section):
    """How rows are shared out, for ever, by a hash of their key."""

    train: Ratio = 0.8
    eval: Ratio = 0.1
    test: Ratio = 0.1
    key: str | None = Field(None, description="Column whose hash decides; the whole row if null.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.eval + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + eval + test must be 1.0, found {total:g}")
        if self.train == 0.0 or self.eval == 0.0:
            raise ValueError("train and eval must be above 0")
        return self


class BeamConfig(Section):
    """Where Beam runs; any runner that Beam knows by name."""

    runner: str = "DirectRunner"
    options: tuple[str, ...] = Field((), description="Beam pipeline options, as '--name=value'.")


class IngestConfig(Section):
    """Raw data to sharded TFRecords of raw examples."""

    source: Source
    test_source: Source | None = Field(None, description="A file of its own as the test part.")
    split: SplitConfig = SplitConfig()
    shard_size_mb: Annotated[float, Field(gt=0.0)] = 64.0
    max_bad_ratio: Ratio = Field(0.01, description="More bad rows than this fail the step.")
    beam: BeamConfig = BeamConfig()


class ValidateConfig(Section):
    """Limits on what may differ from the schema in force and the last run's statistics."""

    max_missing_ratio: Ratio = 0.5
    max_drift: Ratio = Field(
        0.25, description="Jensen-Shannon distance (base 2) to the last run's distribution, 0..1."
    )
    max_new_category_ratio: Ratio = 0.05
    fail_on: tuple[
        Literal["missing_column", "type", "range", "missing", "new_category", "drift"], ...
    ] = (
        "missing_column",
        "type",
    )


class TransformConfig(Section):
    """tf.Transform's full pass."""

    beam: BeamConfig = BeamConfig()
    shard_size_mb: Annotated[float, Field(gt=0.0)] = 64.0


class TrainConfig(Section):
    """The training loop. Hyperparameters of the model itself are in `hyperparameters`."""

    strategy: Literal["single", "mirrored", "multi_worker", "parameter_server", "mpi"] = "single"
    workers: Count = Field(
        2,
        description="Processes that train, of the strategies with several; the chief of "
        "multi_worker and rank 0 of mpi are among them.",
    )
    parameter_servers: Count = Field(1, description="Of strategy parameter_server.")
    is_synchronous: bool = Field(
        False,
        description="Parameter servers wait for every worker's share of each batch; otherwise each "
        "worker learns from batches of its own and the servers apply what comes.",
    )
    max_staleness: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Most updates that may come between a worker's weights and its gradients, of "
        "asynchronous parameter servers; null: any number.",
    )
    partition_mb: Annotated[float, Field(gt=0.0)] = Field(
        4.0, description="Larger variables are divided among the parameter servers."
    )
    all_reduce: Literal["auto", "ring", "grpc", "nccl"] = Field(
        "auto",
        description="How multi_worker sums gradients: 'ring' on the host (Slipway's own), 'grpc' "
        "or 'nccl' by TensorFlow; auto: nccl where there are GPUs, else ring.",
    )
    compression: Literal["none", "bfloat16"] = Field(
        "none", description="What gradients are sent as between processes; sums are float32."
    )
    steps: Count = 1000
    batch_size: Count = Field(64, description="Examples a step over all replicas.")
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    checkpoint_every_steps: Count = 200
    keep_checkpoints: Count = 20
    log_every_steps: Count = 20
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    accumulation_steps: Count = Field(
        1, description="Parts in which a replica works off its batch, to need less memory."
    )
    class_weights: dict[Name, dict[str, Annotated[float, Field(ge=0.0)]]] = Field(
        default_factory=dict, description="Factors of the loss by head and class; others are 1."
    )
    jit_compile: bool = False
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    eager: bool = Field(False, description="Step by step in Python, for a debugger; slow.")
    is_deterministic: bool = Field(
        False, description="Two runs are equal bit for bit; slower, above all on GPUs."
    )
    seed: int = 7
    shuffle_examples: Count = 20_000
    memory_ratio: Ratio = Field(
        0.25, description="Of the free memory; examples that need less are kept parsed in it."
    )
    timeout_seconds: Seconds = 6 * 3600.0
    start_timeout_seconds: Seconds = Field(
        600.0, description="For all processes to be there, and for the first step (compilation)."
    )
    step_timeout_seconds: Seconds = Field(
        300.0, description="A step of several processes that takes longer counts as hanging."
    )
    histogram_every_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="Histograms of the weights for TensorBoard; 0: none."
    )
    profile_steps: Annotated[tuple[Count, ...], Field(max_length=2)] = Field(
        (), description="First and last step of which TensorFlow's profiler makes a timeline."
    )
    hyperparameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_distributed(self) -> bool:
        """Whether several processes train together."""
        return self.strategy in ("multi_worker", "parameter_server", "mpi")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.eager and self.jit_compile:
            problems.append("eager and jit_compile exclude each other")
        if self.compression != "none" and self.strategy not in ("multi_worker", "mpi"):
            problems.append("compression: only of strategies multi_worker and mpi")
        if self.compression != "none" and self.all_reduce in ("grpc", "nccl"):
            problems.append(f"compression: '{self.all_reduce}' sends float32; use all_reduce: ring")
        if self.all_reduce != "auto" and self.strategy != "multi_worker":
            problems.append("all_reduce: only of strategy multi_worker")
        if self.is_synchronous and self.strategy != "parameter_server":
            problems.append("is_synchronous: only of strategy parameter_server")
        if self.max_staleness is not None and (
            self.strategy != "parameter_server" or self.is_synchronous
        ):
            problems.append("max_staleness: only of asynchronous parameter servers")
        is_asynchronous = self.strategy == "parameter_server" and not self.is_synchronous
        if self.is_deterministic and is_asynchronous and self.max_staleness != 0:
            problems.append(
                "is_deterministic: asynchronous parameter servers apply gradients as they come; "
                "set is_synchronous, or max_staleness: 0"
            )
        if self.strategy == "parameter_server" and self.precision == "mixed_float16":
            problems.append(
                "precision: mixed_float16 needs one loss scale for all, which parameter servers do "
                "not have; use mixed_bfloat16"
            )
        if self.is_distributed and self.batch_size < self.workers:
            problems.append(
                f"batch_size: {self.batch_size} examples for {self.workers} workers; expected at "
                "least one each"
            )
        if len(self.profile_steps) == 1 or list(self.profile_steps) != sorted(self.profile_steps):
            problems.append("profile_steps: expected [first, last], or none")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class EarlyStopConfig(Section):
    """When training may stop before its last step: its verdicts have ceased to get better."""

    patience: Count | None = Field(
        None, description="Checkpoints in a row that are not better than the best; null: never."
    )
    metric: str = Field("", description="On the eval part; bless.metric if empty.")
    min_improvement: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="A checkpoint must be better by more than this to count as better."
    )


class EvaluateConfig(Section):
    """Judging each published checkpoint on the eval part."""

    lease_seconds: Seconds = Field(
        15.0, description="A judge that does not move for so long loses its checkpoint."
    )
    queue_uri: str = Field(
        "",
        description="Leases and verdicts in an object store (s3://bucket/prefix), for a root on "
        "a mount that cannot make hard links; below the root if empty.",
    )
    pictures: bool = Field(True, description="Draw each checkpoint's curves for MLflow.")
    early_stop: EarlyStopConfig = EarlyStopConfig()
    batch_size: Count = 512
    slices: tuple[str, ...] = Field((), description="Raw scalar features to report metrics by.")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    poll_seconds: Seconds = 1.0
    timeout_seconds: Seconds = Field(
        3600.0, description="Give up when nothing new comes for so long."
    )


class BlessConfig(Section):
    """When a candidate may go on to production."""

    metric: str = Field(
        "accuracy", description="Decides between checkpoints and against the champion."
    )
    head: str = Field("", description="The head whose metric decides; the first if empty.")
    thresholds: dict[str, float] = Field(
        default_factory=dict,
        description="Least value on the test part by metric name; losses: most.",
    )
    margin: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="Non-inferiority margin: how much worse than the champion is acceptable."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class RuntimesConfig(Section):
    """What may run the model. The fastest that answers alike and keeps to the limits is taken."""

    candidates: tuple[
        Literal[
            "tensorflow", "openvino", "openvino_bf16", "openvino_int8", "litert", "litert_int8"
        ],
        ...,
    ] = Field(
        ("tensorflow", "openvino", "openvino_int8", "litert"),
        description="Tried in turn; 'tensorflow' alone measures nothing.",
    )
    exports: tuple[Literal["litert", "litert_int8", "xla_aot"], ...] = Field(
        (), description="Files for elsewhere (phones, C++ programs), kept beside the model."
    )
    export_batch_sizes: tuple[Count, ...] = Field(
        (1, 32), description="Rows a call of compiled exports (xla_aot), which fix them."
    )
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-4, description="Largest difference of answers, float32 runtimes: relative above 1."
    )
    max_accuracy_loss_points: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0, description="bf16 and int8: sample rows in a hundred whose class may change."
    )
    min_speedup: Annotated[float, Field(ge=1.0)] = Field(
        1.2, description="bf16 and int8 are taken only if so many times as fast as float32."
    )
    max_p99_ms: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Of the model's call with one row."
    )
    min_rows_per_second: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="With 32 rows a call."
    )
    max_memory_mb: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Of the process that has loaded it."
    )


class OptimizeConfig(Section):
    """Passes over the SavedModel, in order; each must pass the gate or is undone."""

    passes: Passes = Field(DEFAULT_PASSES, validate_default=True)
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-5, description="Largest relative difference of outputs that a float pass may cause."
    )
    budget_percent: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0,
        description="What a lossy pass may cost: points of `bless.metric` on the eval part; of "
        "class agreement where there are no labels; percent of a metric without upper bound.",
    )
    min_gain_ratio: Ratio = Field(
        0.1,
        description="A lossy pass is kept if the model gets smaller or faster by this share; 0: "
        "whenever it is within its budget.",
    )
    sample_rows: Count = Field(256, description="Rows for comparing float passes and calibration.")
    eval_rows: Count = Field(5000, description="Most rows on which lossy passes are judged.")
    runtimes: RuntimesConfig = RuntimesConfig()

    @model_validator(mode="after")
    def _lossy_last(self) -> Self:
        names = [one.name for one in self.passes]
        for name, later in itertools.pairwise(names):
            if name in LOSSY_PASSES and later not in LOSSY_PASSES:
                raise ValueError(
                    f"passes: '{later}' stands after '{name}'; float passes are held to the "
                    "original's digits, so they come before those that cost some"
                )
        return self


class LoadtestConfig(Section):
    """The short load test that a package must survive before it may be deployed."""

    seconds: Seconds = 5.0
    concurrency: Count = 16
    max_error_ratio: Ratio = 0.0
    max_p99_ms: Annotated[float, Field(gt=0.0)] = 1000.0


class PackageConfig(Section):
    """A self-contained directory: model, server settings, provenance."""

    loadtest: LoadtestConfig = LoadtestConfig()
    skew_examples: Count = Field(64, description="Rows sent both offline and over HTTP.")
    skew_tolerance: Annotated[float, Field(gt=0.0)] = 1e-5


class ServeConfig(Section):
    """One model server. Batching parameters carry TensorFlow Serving's names and meaning."""

    max_batch_size: Count = Field(64, description="Rows in one call of the model.")
    batch_timeout_micros: Annotated[int, Field(ge=0)] = 0
    max_enqueued_batches: Count = Field(64, description="Beyond this a request gets 503.")
    num_batch_threads: Count = 1
    max_body_mb: Annotated[float, Field(gt=0.0)] = 16.0
    drain_seconds: Seconds = 20.0
    prediction_log_ratio: Ratio = Field(
        1.0, description="Share of requests whose answer is logged."
    )
    fault_ratio: Ratio = Field(
        0.0, description="Fail this share of requests on purpose: a rehearsal of a roll-back."
    )


class DeployConfig(Section):
    """The ladder to production and the judge on it. The judge counts requests, not minutes."""

    ladder_percent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)
    ] = (
        1,
        5,
        25,
        50,
        100,
    )
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 100
    shadow_requests: Annotated[int, Field(ge=0)] = 200
    shadow_max_concurrent_requests: Count = 32
    min_requests_per_step: Count = 50
    allowed_error_ratio: Ratio = Field(
        0.01, description="Errors acceptable of the canary (SPRT's p0)."
    )
    refused_error_ratio: Ratio = Field(0.05, description="Errors that must be caught (SPRT's p1).")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a good canary is rolled back."
    )
    beta: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a bad canary passes."
    )
    max_latency_ratio: Annotated[float, Field(gt=1.0)] = Field(
        3.0, description="Canary's p95 over stable's p95 that is too slow."
    )
    min_latency_difference_ms: Annotated[float, Field(ge=0.0)] = Field(
        10.0, description="Slower than stable's p95 by less than this is never too slow."
    )
    max_disagreement_ratio: Ratio = Field(0.5, description="Shadow answers that may differ.")
    timeout_seconds: Seconds = Field(
        3600.0, description="No verdict by then: inconclusive, roll back."
    )
    requires_approval: bool = Field(False, description="A person approves in the Airflow UI first.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.ladder_percent) != sorted(set(self.ladder_percent)):
            raise ValueError("ladder_percent must rise without repeats")
        if self.ladder_percent[-1] != 100:
            raise ValueError("ladder_percent must end at 100")
        if self.allowed_error_ratio >= self.refused_error_ratio:
            raise ValueError("allowed_error_ratio must be below refused_error_ratio")
        return self


class RetentionConfig(Section):
    """What is kept; never less than the champion and what a canary uses."""

    runs: Count = 10
    versions: Count = 5
    log_days: Count = 30


class NotifyConfig(Section):
    """Whom to tell of failures, refusals and roll-backs; the Airflow log always."""

    emails: tuple[str, ...] = ()
    smtp_connection: str = Field("smtp_default", description="An Airflow connection id.")
    webhook_connection: str = Field("", description="An Airflow HTTP connection id; empty: none.")


class ScheduleConfig(Section):
    """When and how Airflow runs it."""

    cron: str | None = Field(None, description="Five-field cron expression, UTC; null: by hand.")
    on_new_labels: bool = True
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_delay_seconds: Seconds = 10.0
    timeout_seconds: Seconds = Field(12 * 3600.0, description="Longest that one task may take.")

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and not re.fullmatch(r"\S+( \S+){4}", cron):
            raise ValueError(
                f"expected five fields 'minute hour day month weekday', found {cron!r}"
            )
        return cron


class PipelineConfig(Section):
    """All of `pipeline.yaml`."""

    name: Name
    description: str = ""
    schedule: ScheduleConfig = ScheduleConfig()
    features: Annotated[dict[str, FeatureConfig], Field(min_length=1)]
    heads: Annotated[dict[Name, HeadConfig], Field(min_length=1)]
    weight: str | None = Field(None, description="Column of example weights, if any.")
    ingest: IngestConfig
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    transform: TransformConfig = TransformConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    bless: BlessConfig = BlessConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    package: PackageConfig = PackageConfig()
    serve: ServeConfig = ServeConfig()
    deploy: DeployConfig = DeployConfig()
    retention: RetentionConfig = RetentionConfig()
    notify: NotifyConfig = NotifyConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        labels = {self.label_column(head): head for head in self.heads}
        for column in sorted(labels.keys() & self.features.keys()):
            problems.append(f"heads.{labels[column]}: column '{column}' is also a feature: a leak")
        if self.weight is not None and self.weight in self.features:
            problems.append(f"weight: column '{self.weight}' is also a feature")
        for name in self.evaluate.slices:
            feature = self.features.get(name)
            if feature is None:
                problems.append(f"evaluate.slices: '{name}' is not a feature")
            elif feature.shape or feature.is_variable_length:
                problems.append(f"evaluate.slices: '{name}' is not a scalar")
        for head, weights in self.train.class_weights.items():
            known = self.heads[head].classes if head in self.heads else ()
            if not known:
                problems.append(f"train.class_weights: '{head}' is no head with classes")
            elif unknown := sorted(weights.keys() - set(known)):
                problems.append(f"train.class_weights.{head}: '{unknown[0]}' is no class of it")
        if self.bless.head and self.bless.head not in self.heads:
            problems.append(f"bless.head: '{self.bless.head}' is not a head")
        if self.ingest.test_source is None and self.ingest.split.test == 0.0:
            problems.append("ingest.split.test: must be above 0 where there is no test_source")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def label_column(self, head: str) -> str:
        """Return the raw column that holds a head's label."""
        return self.heads[head].column or head

    @property
    def blessing_head(self) -> str:
        """The head whose metric decides between models."""
        return self.bless.head or next(iter(self.heads))


class RuntimeConfig(Section):
    """Where components run: `configs/runtimes/<name>.yaml`."""

    kind: Literal["local", "kubernetes"] = "local"
    root: str = Field("", description="Artifact root; '<state folder>/artifacts' if empty.")
    max_parallel_components: Count = 2
    kubernetes: KubernetesConfig | None = Field(None, description="Of kind 'kubernetes' only.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError("section 'kubernetes' belongs to kind 'kubernetes', and only there")
        if self.kind == "kubernetes" and not PurePosixPath(self.root).is_absolute():
            raise ValueError(
                "root: pods and Airflow meet there: expected an absolute path on a shared volume, "
                f"found '{self.root}'"
            )
        return self


def is_absolute(path: str) -> bool:
    """Tell whether a source path needs no folder in front: absolute, or with a URI scheme."""
    return "://" in path or PurePosixPath(path).is_absolute()
