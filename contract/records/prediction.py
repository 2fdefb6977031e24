"""One row of the prediction log; its columns on disk are in `contract.prediction_log.columns`."""

from datetime import datetime
from typing import Any

from pydantic import Field

from contract.records.record import Record

# The data plane tells a server as which arm it was asked.
ARM_HEADER = "x-slipway-arm"
ARMS = ("stable", "canary", "shadow")


class Prediction(Record):
    """A row that was predicted, or a request that was refused (one entry, without outputs)."""

    time: datetime = Field(description="When the request was answered, in UTC.")
    request_id: str = Field(description="The header x-request-id; a shadow's copy has the same.")
    row: int = Field(description="The row's place in its request, from 0.")
    version: int = Field(description="The version that answered.")
    arm: str = Field(
        description="As what it was asked: stable, canary or shadow; empty: by its number."
    )
    signature: str = Field(description="The signature that was called; empty if it was refused.")
    status: int = Field(description="HTTP status: 200, or 4xx of a refused request.")
    latency_seconds: float = Field(description="From the request's last byte in to the answer out.")
    predicted: dict[str, int | float] = Field(
        {}, description="By head: the class, an index into the head's classes, or the value."
    )
    confidence: dict[str, float] = Field(
        {}, description="By head with classes: the predicted class's score, from 0 to 1."
    )
    scores: dict[str, tuple[float, ...]] = Field(
        {}, description="By head with classes: all scores, in the order of the head's classes."
    )
    outputs: dict[str, tuple[Any, ...]] = Field(
        {}, description="By output of a model from elsewhere: all values of the row, text as bytes."
    )
    inputs: dict[str, Any] | None = Field(
        None,
        description="By input: its value, text as bytes; null if the request was not sampled "
        "(serve.prediction_log_inputs_ratio).",
    )
    example: bytes | None = Field(
        None, description="The serialised tf.Example, where that is what the caller sent."
    )
