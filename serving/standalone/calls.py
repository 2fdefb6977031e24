"""A prediction that somebody waits for, and what the prediction log keeps of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.server.core.asked import Caller
from serving.server.core.prediction_columns import held_bytes
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.spans import Spans

Array = np.ndarray[Any, Any]

_MOST_ROW_BYTES = 64 * 1024  # a larger output, such as a picture, would fill the log with itself


@dataclass(frozen=True)
class _Answer:
    """What a signature has answered; `rows` is how many its inputs had."""

    signature: str
    outputs: Mapping[str, Array]
    rows: int


@dataclass
class Call:
    """A request for a prediction.

    Attributes:
        caller: Who asks.
        expires_at: When they stop waiting, of `time.monotonic()`.
        spans: Is there from the time that a model is asked.
    """

    caller: Caller
    expires_at: float = math.inf
    spans: Spans | None = None
    _answers: list[_Answer] = field(default_factory=list)

    def note(self, signature: str, outputs: Mapping[str, Array], rows: int) -> None:
        """Keep what a signature has answered until it is sent."""
        self._answers.append(_Answer(signature, outputs, rows))

    def seconds(self, written_at: float) -> tuple[float, ...] | None:
        """Return how long each span took, for an answer of a model that is written."""
        if self.spans is None:
            return None
        return self.spans.seconds(self.caller.received_at, written_at)

    def log_answers(self, log: PredictionLog | None) -> None:
        """Log what was answered; it was sent."""
        if log is None:
            return
        for answer in self._answers:
            logged = {n: a for n, a in answer.outputs.items() if _is_logged(a, answer.rows)}
            log.note_answer(self.caller, answer.signature, logged)

    def log_refusal(self, log: PredictionLog | None, status: int) -> None:
        """Log a refusal that the caller has caused; `status` is HTTP's."""
        if log is not None and 400 <= status < 500:
            log.note_refusal(self.caller, status)


def _is_logged(output: Array, rows: int) -> bool:
    """Tell whether an output has an entry for each row, and is not too large."""
    has_rows = output.ndim > 0 and len(output) == rows > 0
    return has_rows and held_bytes(output) <= _MOST_ROW_BYTES * rows
