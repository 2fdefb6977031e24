"""What a prediction request asks of the model, in the terms of no protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from serving.server.core.spans import Spans
from serving.server.engines.engine import (
    NotFiniteError,
    RefusedInputError,
    largest_value,
    shown,
)


class Caller(NamedTuple):
    """What the prediction log keeps of who asked. `received_at` is `time.monotonic()`'s."""

    request_id: bytes
    arm: bytes
    received_at: float


@dataclass(frozen=True)
class Asked:
    """What a prediction was asked about; `key` is where its rows stand, for messages.

    It is made when the request has been read, which is when the time of `spans` begins.
    """

    signature: str
    columns: Mapping[str, np.ndarray]
    key: str
    spans: Spans = field(default_factory=Spans, compare=False)

    def refusal(self, error: RefusedInputError) -> str:
        """Say which value the model cannot answer, where that is known, and why."""
        is_finite = not isinstance(error, NotFiniteError)
        words = f"the model refuses the input: {error}" if is_finite else str(error)
        if error.row is None:
            return words
        if error.feature is None:
            largest = "" if is_finite else largest_value(self.columns, error.row)
            return f"{self.key}[{error.row}]: {words}{largest}"
        value = ""
        if error.feature in self.columns:
            value = f" = {shown(self.columns[error.feature][error.row])}"
        return f"{self._place(error.row, error.feature)}{value}: {words}"

    def _place(self, row: int, feature: str) -> str:
        if self.key == "inputs":
            return f"inputs.{feature}[{row}]"
        return f"{self.key}[{row}].{feature}"
