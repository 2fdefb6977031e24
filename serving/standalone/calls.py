"""A prediction that somebody waits for, and what the prediction log keeps of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contract.prediction_log.columns import EXAMPLE, INPUT
from serving.server.core.asked import Caller
from serving.server.core.prediction_columns import held_bytes
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.spans import Spans

Array = np.ndarray[Any, Any]

_MOST_ROW_BYTES = 64 * 1024  # a larger output, such as a picture, would fill the log with itself


@dataclass(frozen=True)
class _Answer:
    """What a signature has answered, and to what; `rows` is how many its inputs had.

    The inputs are as the caller has sent them: by name, or serialised tf.Examples.
    """

    signature: str
    outputs: Mapping[str, Array]
    rows: int
    inputs: Mapping[str, Array] | Sequence[bytes]


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

    def note(
        self,
        signature: str,
        outputs: Mapping[str, Array],
        rows: int,
        inputs: Mapping[str, Array] | Sequence[bytes],
    ) -> None:
        """Keep what a signature has answered until it is sent."""
        self._answers.append(_Answer(signature, outputs, rows, inputs))

    def seconds(self, written_at: float) -> tuple[float, ...] | None:
        """Return how long each span took, for an answer of a model that is written."""
        if self.spans is None:
            return None
        return self.spans.seconds(self.caller.received_at, written_at)

    def log_answers(self, log: PredictionLog | None) -> None:
        """Log what was answered; it was sent."""
        if log is None:
            return
        are_sampled = log.samples(self.caller.request_id)
        for answer in self._answers:
            logged = {n: a for n, a in answer.outputs.items() if _is_logged(a, answer.rows)}
            inputs = _columns(answer.inputs) if are_sampled else None
            log.note_answer(self.caller, answer.signature, logged, inputs)

    def log_refusal(self, log: PredictionLog | None, status: int) -> None:
        """Log a refusal that the caller has caused; `status` is HTTP's."""
        if log is not None and 400 <= status < 500:
            log.note_refusal(self.caller, status)


def _columns(inputs: Mapping[str, Array] | Sequence[bytes]) -> dict[str, Array]:
    """Return inputs by the names of the log's columns."""
    if isinstance(inputs, Mapping):
        return {INPUT + name: array for name, array in inputs.items()}
    examples = np.empty(len(inputs), object)
    examples[:] = inputs
    return {EXAMPLE: examples}


def _is_logged(output: Array, rows: int) -> bool:
    """Tell whether an output has an entry for each row, and is not too large."""
    has_rows = output.ndim > 0 and len(output) == rows > 0
    return has_rows and held_bytes(output) <= _MOST_ROW_BYTES * rows
