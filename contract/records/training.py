"""What a training publishes and leaves."""

from datetime import datetime

from pydantic import Field

from contract.records.record import Record


class CheckpointManifest(Record):
    """A published checkpoint: written last, so that a checkpoint with a manifest is complete."""

    step: int
    files: dict[str, str] = Field(description="Digest by file name.")
    written_at: datetime
    metrics: dict[str, float] = Field({})


class TrainingEnded(Record):
    """No more checkpoints will come."""

    has_succeeded: bool
    last_step: int
    reason: str
    ended_at: datetime


class Hang(Record):
    """A process of a training that its chief no longer hears of; the launcher ends that process."""

    role: str = Field(description="Which, as in 'worker-1'.")
    reason: str
    noted_at: datetime


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
