"""Sections about training, evaluation and the blessing."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.section import Count, Name, Ratio, Seconds, Section


class TrainConfig(Section):
    """The training loop. Hyperparameters of the model itself are in `hyperparameters`."""

    strategy: Literal["single", "mirrored", "multi_worker", "parameter_server", "mpi"] = Field(
        "single", description="How the training is distributed over devices and processes."
    )
    workers: Count = Field(
        2,
        description="Number of processes that train, at least 1, for strategies with several "
        "processes; it includes the chief of multi_worker and rank 0 of mpi.",
    )
    parameter_servers: Count = Field(
        1, description="Number of parameter servers, at least 1, for strategy parameter_server."
    )
    is_synchronous: bool = Field(
        False,
        description="Whether parameter servers wait for every worker's share of each batch; if "
        "not, each worker learns from its own batches and servers apply updates as they arrive.",
    )
    max_staleness: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Most updates, at least 0, between the weights that a worker read and the "
        "gradients that it sends, for asynchronous parameter servers; null: any number.",
    )
    partition_mb: Annotated[float, Field(gt=0.0)] = Field(
        4.0,
        description="Size in megabytes, above 0, from which a variable is divided among the "
        "parameter servers.",
    )
    all_reduce: Literal["auto", "ring", "grpc", "nccl"] = Field(
        "auto",
        description="How multi_worker sums gradients: 'ring' on the host (Slipway's own), 'grpc' "
        "or 'nccl' by TensorFlow; 'auto': nccl where a process has several GPUs, else ring.",
    )
    compression: Literal["none", "bfloat16"] = Field(
        "none", description="Type in which processes send gradients; sums are float32."
    )
    steps: Count = Field(1000, description="Number of training steps, at least 1.")
    start_from: Literal["scratch", "champion"] = Field(
        "scratch",
        description="Weights before the first step: 'scratch': those that the model's initializers "
        "make; 'champion': those of the version in service, with a new optimizer, or fresh ones "
        "where its model, classes or vocabularies differ.",
    )
    batch_size: Count = Field(
        64, description="Examples in each step, summed over all replicas, at least 1."
    )
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(
        1e-3, description="Learning rate of the default optimizer, no unit, above 0."
    )
    checkpoint_every_steps: Count = Field(
        200, description="Steps between two checkpoints, at least 1."
    )
    keep_checkpoints: Count = Field(
        20, description="Most checkpoints that are kept at the same time, at least 1."
    )
    log_every_steps: Count = Field(
        20, description="Steps between two reports of loss and speed, at least 1."
    )
    clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="Largest joint norm of the gradients, no unit, above 0; larger ones are scaled "
        "down to it; null: no limit.",
    )
    accumulation_steps: Count = Field(
        1,
        description="Number of micro-batches into which a replica divides its batch, at least 1; "
        "more need less memory.",
    )
    class_weights: dict[Name, dict[str, Annotated[float, Field(ge=0.0)]]] = Field(
        default_factory=dict,
        description="Factor of the loss by head and class, no unit, at least 0; other classes have "
        "1.",
    )
    jit_compile: bool = Field(False, description="Whether XLA compiles the training step.")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Type of the computation; variables are float32."
    )
    eager: bool = Field(
        False, description="Whether each step runs in Python, for a debugger; this is slow."
    )
    is_deterministic: bool = Field(
        False, description="Whether two runs are equal bit for bit; slower, above all on GPUs."
    )
    seed: int = Field(
        7, description="Seed of all random numbers, any integer; it is a number without a unit."
    )
    shuffle_examples: Count = Field(
        20_000, description="Examples in all shuffle buffers together, at least 1."
    )
    memory_ratio: Ratio = Field(
        0.25,
        description="Share of the free memory, from 0 to 1, up to which parsed examples are kept "
        "in memory.",
    )
    timeout_seconds: Seconds = Field(
        6 * 3600.0, description="Seconds that the training may take, above 0."
    )
    start_timeout_seconds: Seconds = Field(
        600.0,
        description="Seconds within which all processes must be there, and within which the first "
        "step (compilation) must end, above 0.",
    )
    step_timeout_seconds: Seconds = Field(
        300.0,
        description="Seconds that a step may take, with callbacks and checkpoint, above 0; a "
        "longer one counts as hanging, and the training is restarted.",
    )
    histogram_every_steps: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Steps between two histograms of the weights for TensorBoard, at least 0; 0: "
        "none.",
    )
    profile_steps: Annotated[tuple[Count, ...], Field(max_length=2)] = Field(
        (),
        description="First and last step, from 1 to `steps`, that TensorFlow's profiler records; "
        "empty: none.",
    )
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="Values of any type that `build_model` receives."
    )

    @property
    def is_distributed(self) -> bool:
        """Whether several processes train together."""
        return self.strategy in ("multi_worker", "parameter_server", "mpi")

    @property
    def is_asynchronous(self) -> bool:
        """Whether each worker learns from its own batches."""
        return self.strategy == "parameter_server" and not self.is_synchronous

    @property
    def sharers(self) -> int:
        """Among how many processes each batch is divided."""
        return self.workers if self.is_distributed and not self.is_asynchronous else 1

    @property
    def replaceable_kinds(self) -> frozenset[Literal["worker"]]:
        """Kinds of processes of which a lost one is replaced alone, while the others continue.

        Processes that make their steps together cannot take in a new one, and what a lost
        parameter server held is gone: there everything restarts from the last checkpoint.
        """
        return frozenset({"worker"}) if self.is_asynchronous else frozenset()

    @property
    def _is_profile_possible(self) -> bool:
        first, last = self.profile_steps[0], self.profile_steps[-1]
        return len(self.profile_steps) == 2 and first <= last <= self.steps

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [
            *self._problems_of_exchange(),
            *self._problems_of_parameter_servers(),
            *self._problems_of_sizes(),
        ]
        if self.eager and self.jit_compile:
            problems.insert(0, "eager and jit_compile exclude each other")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems_of_exchange(self) -> Iterator[str]:
        if self.compression != "none" and self.strategy not in ("multi_worker", "mpi"):
            yield "compression: only of strategies multi_worker and mpi"
        if self.compression != "none" and self.all_reduce in ("grpc", "nccl"):
            yield f"compression: '{self.all_reduce}' sends float32; use all_reduce: ring"
        if self.all_reduce != "auto" and self.strategy != "multi_worker":
            yield "all_reduce: only of strategy multi_worker"

    def _problems_of_parameter_servers(self) -> Iterator[str]:
        if self.is_synchronous and self.strategy != "parameter_server":
            yield "is_synchronous: only of strategy parameter_server"
        if self.max_staleness is not None and not self.is_asynchronous:
            yield "max_staleness: only of asynchronous parameter servers"
        if self.is_deterministic and self.is_asynchronous and self.max_staleness != 0:
            yield (
                "is_deterministic: asynchronous parameter servers apply gradients as they come; "
                "set is_synchronous, or max_staleness: 0"
            )
        if self.strategy == "parameter_server" and self.precision == "mixed_float16":
            yield (
                "precision: mixed_float16 needs one loss scale for all, which parameter servers do "
                "not have; use mixed_bfloat16"
            )

    def _problems_of_sizes(self) -> Iterator[str]:
        if self.is_distributed and self.batch_size < self.workers:
            yield (
                f"batch_size: {self.batch_size} examples for {self.workers} workers; expected at "
                "least one each"
            )
        if self.accumulation_steps > self.batch_size:
            yield (
                f"accumulation_steps: {self.accumulation_steps} parts of a batch of "
                f"{self.batch_size} examples"
            )
        if self.profile_steps and not self._is_profile_possible:
            yield (
                f"profile_steps: expected [first, last] with first <= last <= steps "
                f"({self.steps}), found {list(self.profile_steps)}"
            )


class EarlyStopConfig(Section):
    """When training may stop before its last step: its verdicts no longer improve."""

    patience: Count | None = Field(
        None,
        description="Number of checkpoints in a row, at least 1, without an improvement, after "
        "which training stops; null: never.",
    )
    metric: str = Field(
        "", description="Metric on the eval split that decides; empty: bless.metric."
    )
    min_improvement: Annotated[float, Field(ge=0.0)] = Field(
        0.0,
        description="Difference to the best checkpoint, in the metric's own unit, at least 0, that "
        "a better checkpoint must exceed.",
    )


class EvaluateConfig(Section):
    """Judging each published checkpoint on the eval split."""

    evaluators: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Number of processes that judge at the same time, from 1 to 64; each takes the "
        "next checkpoint.",
    )
    lease_seconds: Seconds = Field(
        15.0,
        description="Seconds without progress, above 0, after which an evaluator loses its "
        "checkpoint.",
    )
    queue_uri: str = Field(
        "",
        description="URI of leases and verdicts in an object store (s3://bucket/prefix), for a "
        "root on a mount without hard links; empty: below the root.",
    )
    pictures: bool = Field(
        True, description="Whether each checkpoint's curves are drawn for MLflow."
    )
    early_stop: EarlyStopConfig = Field(
        EarlyStopConfig(), description="When training may stop before its last step."
    )
    batch_size: Count = Field(512, description="Examples in one call of the model, at least 1.")
    slices: tuple[str, ...] = Field(
        (), description="Raw scalar features by whose values metrics are reported."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95,
        description="Confidence of the metrics' intervals as a probability, above 0.5 and below 1.",
    )
    poll_seconds: Seconds = Field(
        1.0, description="Seconds between two looks for a new checkpoint, above 0."
    )
    timeout_seconds: Seconds = Field(
        3600.0,
        description="Seconds without a new checkpoint, above 0, after which the step gives up.",
    )


class BlessConfig(Section):
    """When a candidate may continue to production."""

    metric: str = Field(
        "accuracy",
        description="Metric that decides between checkpoints, and between candidate and champion.",
    )
    head: str = Field("", description="The head whose metric decides; empty: the first head.")
    thresholds: dict[str, float] = Field(
        default_factory=dict,
        description="Least value on the test split by metric name, the most for losses; any "
        "number, in the metric's own unit.",
    )
    margin: Annotated[float, Field(ge=0.0)] = Field(
        0.01,
        description="Non-inferiority margin, in the metric's own unit, at least 0: how much worse "
        "than the champion, and than the best champion kept, a candidate may be.",
    )
    head_margins: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="Margin by head other than the deciding one, at least 0, in units of accuracy "
        "or, for regression, of R²: a candidate is refused if it is shown to be worse than the "
        "champion by more; heads that are not listed have `margin`.",
    )
    slice_margins: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="Margin by feature in evaluate.slices, at least 0, in the metric's own unit: a "
        "candidate is refused if it is shown to be worse than the champion by more on the rows of "
        "one of its values; features that are not listed have `margin`.",
    )
    min_examples_per_class: Count = Field(
        30,
        description="Fewest test rows of each class, at least 1, with which auc, precision and "
        "recall are compared, and of a slice with which it is.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95,
        description="Confidence of the comparison with the champion as a probability, above 0.5 "
        "and below 1.",
    )
