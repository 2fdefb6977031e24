"""What a training publishes and leaves."""

from datetime import datetime

from pydantic import Field

from contract.records.record import Record


class CheckpointManifest(Record):
    """A published checkpoint: written last, so that a checkpoint with a manifest is complete."""

    step: int = Field(description="Training step at which it was written.")
    files: dict[str, str] = Field(description="Digest by file name.")
    written_at: datetime = Field(description="When it was written.")
    metrics: dict[str, float] = Field(
        {}, description="Metrics of the training at this step, by name."
    )


class TrainingEnded(Record):
    """No more checkpoints will come."""

    has_succeeded: bool = Field(description="Whether training reached its end.")
    last_step: int = Field(description="Step of the last checkpoint.")
    reason: str = Field(description="Why it ended.")
    ended_at: datetime = Field(description="When it ended.")


class Hang(Record):
    """A process of a training that its chief no longer hears of; the launcher ends that process."""

    role: str = Field(description="Which, as in 'worker-1'.")
    reason: str = Field(description="What the chief noticed.")
    noted_at: datetime = Field(description="When it noticed.")


class TrainingStart(Record):
    """Which weights a training with `train.start_from: champion` began with."""

    version: int | None = Field(
        None, description="The champion whose weights it began with; null: fresh weights."
    )
    run_id: str = Field("", description="Run of the checkpoint that has these weights.")
    step: int = Field(0, description="Training step of that checkpoint.")
    reason: str = Field("", description="Why the weights are fresh; empty: they are not.")
    chosen_at: datetime = Field(description="When this was chosen.")


class TrainRecord(Record):
    """What training left."""

    last_step: int = Field(description="Step of the last checkpoint.")
    checkpoints: tuple[int, ...] = Field(description="Steps of the checkpoints that are kept.")
    parameters: int = Field(0, description="Number of the model's parameters.")
    resumed_from_step: int = Field(
        0,
        description="Step of the checkpoint from which the last attempt resumed; 0: from nothing.",
    )
    start: TrainingStart | None = Field(
        None, description="What the first step began with; null: fresh weights, as the config says."
    )


class Divergence(Record):
    """The step that made a training's numbers infinite or NaN; its batch is kept beside."""

    step: int = Field(description="Training step at which it happened.")
    layer: str = Field(description="Layer, variable or input; `loss` if only that.")
    what: str = Field(description="What was found there, as in 'NaN'.")
    rows: tuple[int, ...] = Field((), description="Of the batch, where rows show it.")
