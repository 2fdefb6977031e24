"""Sections about training, evaluation and the blessing."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.section import Count, Name, Ratio, Seconds, Section


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
        "or 'nccl' by TensorFlow; auto: nccl where a process has several GPUs, else ring.",
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
        300.0,
        description="A step that takes longer, callbacks and checkpoint included, counts as "
        "hanging: the training ends, to be started again.",
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

    @property
    def is_asynchronous(self) -> bool:
        """Whether each worker learns from batches of its own."""
        return self.strategy == "parameter_server" and not self.is_synchronous

    @property
    def sharers(self) -> int:
        """Among how many processes each batch is divided."""
        return self.workers if self.is_distributed and not self.is_asynchronous else 1

    @property
    def replaceable_kinds(self) -> frozenset[Literal["worker"]]:
        """Kinds of processes of which a lost one is replaced alone, while the others go on.

        What makes its steps together has no place for a newcomer, and what a lost parameter server
        held is gone: there everything starts again from the last checkpoint.
        """
        return frozenset({"worker"}) if self.is_asynchronous else frozenset()

    @property
    def _is_profile_possible(self) -> bool:
        first, last = self.profile_steps[0], self.profile_steps[-1]
        return len(self.profile_steps) == 2 and first <= last <= self.steps

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
        if self.max_staleness is not None and not self.is_asynchronous:
            problems.append("max_staleness: only of asynchronous parameter servers")
        if self.is_deterministic and self.is_asynchronous and self.max_staleness != 0:
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
        if self.accumulation_steps > self.batch_size:
            problems.append(
                f"accumulation_steps: {self.accumulation_steps} parts of a batch of "
                f"{self.batch_size} examples"
            )
        if self.profile_steps and not self._is_profile_possible:
            problems.append(
                f"profile_steps: expected [first, last] with first <= last <= steps "
                f"({self.steps}), found {list(self.profile_steps)}"
            )
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

    evaluators: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Processes that judge beside each other; each takes the next checkpoint."
    )
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
        0.01,
        description="Non-inferiority margin: how much worse than the champion, and than the best "
        "champion that is kept, is acceptable.",
    )
    head_margins: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="How much worse than the champion another head may not be shown to be, in "
        "accuracy, or, of regression, in R²; a head that is not named has `margin`.",
    )
    min_examples_per_class: Count = Field(
        30,
        description="Least test rows of each class for auc, precision and recall to be compared.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
