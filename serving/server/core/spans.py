"""Where the time of a prediction goes: it is read, it waits, the model runs, it is written."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

NAMES = ("transform_request", "queue", "predict", "transform_response")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
WANTED_HEADER = "x-server-timing"  # a request with it, whatever its value, gets `server-timing`
ANSWER_HEADER = "server-timing"  # https://www.w3.org/TR/server-timing/


@dataclass(slots=True)
class Spans:
    """Times of one prediction, of `time.monotonic()`; those of the model are 0 before it is called.

    Of rows that are too many for one call, the model's span is from the first call's begin to the
    last one's end.
    """

    read_at: float = field(default_factory=time.monotonic)
    called_at: float = 0.0
    returned_at: float = 0.0

    def note_call(self, started: float, ended: float) -> None:
        """The model was called for these rows, or for some of them."""
        self.called_at = self.called_at or started
        self.returned_at = ended

    def seconds(self, received_at: float, written_at: float) -> tuple[float, ...]:
        """Return how long each of `NAMES` took, for an answer whose body is written."""
        times = (received_at, self.read_at, self.called_at, self.returned_at, written_at)
        return tuple(max(0.0, end - start) for start, end in itertools.pairwise(times))


def server_timing(seconds: Iterable[float]) -> str:
    """Return the value of `server-timing`: milliseconds by name."""
    return ", ".join(f"{n};dur={1e3 * s:.3f}" for n, s in zip(NAMES, seconds, strict=True))
