"""What was predicted, as Parquet files on disk, without a request ever waiting for the disk.

Answers wait in a bounded queue. One thread gathers them into columns ten times a second, and makes
a file of them at the latest every two seconds: a server that is killed loses no more.
`contract.prediction_log` says what the files look like and reads them.

A request that is refused (4xx) has a row, too, so that a comparison of two versions sees which of
them answered.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import StorageError
from contract.records.package import PackageManifest
from contract.records.prediction import ARMS
from serving.server.core.asked import Caller
from serving.server.core.hourly_files import TWO_SECONDS, FlushRule, HourlyFiles
from serving.server.core.prediction_columns import Answer, PredictionColumns
from serving.server.engines.engine import Columns, Outputs

log = logging.getLogger("slipway")

_GATHER_SECONDS = 0.1  # what has come within this time is turned into columns together
_CLOSE_SECONDS = 5.0
_WARN_SECONDS = 60.0  # a full disk is not worth a line for each file
_HASH_RANGE = 2**32
_ARMS = frozenset(arm.encode() for arm in ARMS)


@dataclass(frozen=True)
class QueueLimits:
    """How much may wait for the thread: requests, and bytes of outputs and sampled inputs."""

    requests: int = 50_000
    size_bytes: int = 64 << 20


def is_logged(request_id: bytes, ratio: float) -> bool:
    """Tell whether a request is among the logged share; every server decides alike."""
    if ratio >= 1.0:
        return True
    # Not a CRC: ids that count upwards fall unevenly into its range.
    digest = hashlib.blake2b(request_id, digest_size=4).digest()
    return int.from_bytes(digest) < ratio * _HASH_RANGE


class PredictionLog:
    """A bounded queue and the one thread that writes it out."""

    def __init__(
        self,
        folder: Path,
        manifest: PackageManifest,
        on_dropped: Callable[[int], None],
        rule: FlushRule = TWO_SECONDS,
        limits: QueueLimits = QueueLimits(),
    ) -> None:
        """Start writing below `folder`; a file is there only when there was an answer.

        Raises:
            OSError: If the folder cannot be made.
        """
        self._on_dropped, self._limits = on_dropped, limits
        self._ratio = manifest.serve.prediction_log_ratio
        self._inputs_ratio = manifest.serve.prediction_log_inputs_ratio
        self._waiting: deque[tuple[Answer, int]] = deque()
        self._added_bytes = self._taken_bytes = 0  # each is changed by one thread only
        self._has_work = threading.Event()
        self._is_closing = False
        self._warned_at = -_WARN_SECONDS
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._columns = PredictionColumns(manifest)
        self._files = HourlyFiles(folder, manifest.serve, self._lose, rule)
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def note_answer(
        self, caller: Caller, signature: str, outputs: Outputs, inputs: Columns | None = None
    ) -> None:
        """Log an answer that was sent, if it is among the logged share.

        Args:
            caller: Who asked.
            signature: What was called.
            outputs: Each with an entry a row; may be empty.
            inputs: Are logged if the request is among the sampled share.
        """
        if is_logged(caller.request_id, self._ratio):
            sampled = inputs if self.samples(caller.request_id) else None
            self.add(_answer(caller, outputs, signature, sampled))

    def note_refusal(self, caller: Caller, status: int) -> None:
        """Log that a prediction was refused for the caller's fault; `status` is HTTP's (4xx)."""
        if is_logged(caller.request_id, self._ratio):
            self.add(_answer(caller, status))

    def add(self, answer: Answer) -> None:
        """Queue an answer; if too many wait, it is dropped and counted."""
        size, limits = answer.size_bytes(), self._limits
        waiting_bytes = self._added_bytes - self._taken_bytes
        if len(self._waiting) >= limits.requests or waiting_bytes + size > limits.size_bytes:
            self._on_dropped(1)
            return
        self._added_bytes += size
        self._waiting.append((answer, size))
        if not self._has_work.is_set():
            self._has_work.set()

    def samples(self, request_id: bytes) -> bool:
        """Tell whether a request's inputs are logged, too."""
        return self._inputs_ratio > 0.0 and is_logged(request_id, self._inputs_ratio)

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._is_closing = True
        self._has_work.set()
        self._thread.join(timeout=_CLOSE_SECONDS)

    # --- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        self._try(self._files.tidy)
        while not self._is_closing:
            self._has_work.wait(self._files.seconds_left())
            if self._has_work.is_set() and not self._is_closing:
                time.sleep(_GATHER_SECONDS)
            self._gather()
            if self._files.seconds_left() == 0.0:
                self._files.flush()
                self._try(self._files.tidy)
        self._gather()
        self._files.flush()
        self._try(self._files.end_hour)

    def _gather(self) -> None:
        self._has_work.clear()
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._taken_bytes += sum(size for _, size in taken)
        try:
            self._files.add(self._columns.batches([answer for answer, _ in taken]))
        except Exception as error:  # noqa: BLE001 (a model's odd outputs must not end the thread)
            self._lose(len(taken), error)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (as above)
            self._lose(0, error)

    def _lose(self, requests: int, error: Exception) -> None:
        """Count requests that are not logged, and say why, once a minute."""
        self._on_dropped(requests)
        if time.monotonic() >= self._warned_at + _WARN_SECONDS:
            self._warned_at = time.monotonic()
            log.warning(
                "prediction log %s: %d requests are not logged: %s", self._folder, requests, error
            )


def open_log(
    folder: Path | None, manifest: PackageManifest, on_dropped: Callable[[int], None]
) -> PredictionLog | None:
    """Return the log of a server; None if nobody has named a folder, or no request is logged.

    Raises:
        StorageError: If the folder cannot be made.
    """
    if folder is None or manifest.serve.prediction_log_ratio == 0.0:
        return None
    try:
        return PredictionLog(folder, manifest, on_dropped)
    except OSError as error:
        raise StorageError(f"--predictions {folder}: cannot write there: {error}") from error


def _answer(
    caller: Caller, found: Outputs | int, signature: str = "", inputs: Columns | None = None
) -> Answer:
    # A caller that asks the server itself may send anything as arm.
    arm = caller.arm if caller.arm in _ARMS else b""
    seconds = time.monotonic() - caller.received_at
    return Answer(caller.request_id, arm, signature, time.time(), seconds, found, inputs)
