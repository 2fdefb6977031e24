"""What was predicted, as JSON lines on disk, without a request ever waiting for the disk.

One line a logged request:
`{"request_id": ..., "time": seconds since 1970, "version": V, "predictions": [{head: class index or
value}, ...one a row], "scores": [{head: highest score}, ...]}` (`scores` has classification heads
only). A request that is refused (4xx) has a line, too, so that whoever compares two versions sees
which of them answered: `{"request_id": ..., "time": ..., "version": V, "refused": status}`.

Files are `<number>.jsonl`, numbers rising with leading zeros; the highest is being written, older
ones are complete, the oldest are removed beyond a limit. Lines are whole: a reader that follows a
file may meet an unfinished one only at its end.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from contract.model_io import output_names
from contract.schema.data import HeadConfig
from serving.server.engines.engine import Outputs

log = logging.getLogger("slipway")

_GATHER_SECONDS = 0.1  # what has come within this time is formatted and written together
_MAX_WAITING = 50_000
_HASH_RANGE = 2**32


@dataclass(frozen=True)
class Rotation:
    """When a new file begins and how many are kept."""

    max_file_bytes: int = 64 * 1024 * 1024
    max_files: int = 8


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
        version: int,
        heads: Mapping[str, HeadConfig],
        on_dropped: Callable[[int], None],
        rotation: Rotation = Rotation(),
    ) -> None:
        """Start writing into `folder`, in a new file.

        Raises:
            OSError: If the folder cannot be made or written.
        """
        self._folder, self._version, self._rotation = folder, version, rotation
        self._heads = {
            head: (name, heads[head].task != "regression")
            for head, name in output_names(heads).items()
        }
        self._on_dropped = on_dropped
        self._waiting: deque[tuple[bytes, float, Outputs | int]] = deque()
        self._has_work = threading.Event()
        self._is_closing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._next_file()
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, request_id: bytes, found: Outputs | int) -> None:
        """Queue one request's predictions, or the status with which it was refused.

        If too many wait, they are dropped and counted.
        """
        if len(self._waiting) >= _MAX_WAITING:
            self._on_dropped(1)
            return
        self._waiting.append((request_id, time.time(), found))
        if not self._has_work.is_set():
            self._has_work.set()

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._is_closing = True
        self._has_work.set()
        self._thread.join(timeout=5.0)

    # --- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._is_closing:
            self._has_work.wait()
            if not self._is_closing:
                time.sleep(_GATHER_SECONDS)
            self._has_work.clear()
            self._write_waiting()
        with contextlib.suppress(OSError):
            self._file.close()

    def _write_waiting(self) -> None:
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not entries:
            return
        try:
            answered = [(i, t, found) for i, t, found in entries if not isinstance(found, int)]
            refused = [(i, t, found) for i, t, found in entries if isinstance(found, int)]
            lines = self._lines(answered) if answered else []
            self._file.write(b"".join(lines + self._refusals(refused)))
            self._file.flush()
            if self._file.tell() >= self._rotation.max_file_bytes:
                self._file.close()
                self._file = self._next_file()
        except (OSError, ValueError) as error:
            self._on_dropped(len(entries))
            log.warning("prediction log %s: %s", self._folder, error)

    def _lines(self, entries: list[tuple[bytes, float, Outputs]]) -> list[bytes]:
        """Format all entries with one pass of numpy over their rows together."""
        predictions, scores = self._columns([outputs for _, _, outputs in entries])
        sizes = [len(next(iter(outputs.values()))) for _, _, outputs in entries]
        lines = [
            {
                "request_id": request_id.decode("latin-1"),
                "time": moment,
                "version": self._version,
                "predictions": predictions[end - size : end],
                "scores": scores[end - size : end],
            }
            for (request_id, moment, _), size, end in zip(
                entries, sizes, accumulate(sizes), strict=True
            )
        ]
        return [orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines]

    def _refusals(self, entries: list[tuple[bytes, float, int]]) -> list[bytes]:
        lines = [
            {
                "request_id": request_id.decode("latin-1"),
                "time": moment,
                "version": self._version,
                "refused": status,
            }
            for request_id, moment, status in entries
        ]
        return [orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines]

    def _columns(self, outputs: list[Outputs]) -> tuple[list[Any], list[Any]]:
        chosen: dict[str, list[Any]] = {}
        best: dict[str, list[Any]] = {}
        for head, (name, is_classification) in self._heads.items():
            values = np.concatenate([own[name] for own in outputs])
            if is_classification:
                chosen[head] = values.argmax(axis=1).tolist()
                best[head] = values.max(axis=1).astype(float).round(6).tolist()
            else:
                chosen[head] = values.tolist()
        rows = sum(len(next(iter(own.values()))) for own in outputs)
        return _rows_of(chosen, rows), _rows_of(best, rows)

    def _next_file(self) -> BinaryIO:
        """Open the next file and remove the oldest ones."""
        files = sorted(p for p in self._folder.glob("*.jsonl") if p.stem.isdigit())
        for old in files[: max(0, len(files) - self._rotation.max_files + 1)]:
            old.unlink(missing_ok=True)
        number = int(files[-1].stem) + 1 if files else 1
        return (self._folder / f"{number:08d}.jsonl").open("ab")


def _rows_of(columns: Mapping[str, list[Any]], rows: int) -> list[dict[str, Any]]:
    """Turn lists by head into one mapping a row."""
    if not columns:
        return [{} for _ in range(rows)]
    heads = tuple(columns)
    if len(heads) == 1:
        return [{heads[0]: value} for value in columns[heads[0]]]
    return [dict(zip(heads, row, strict=True)) for row in zip(*columns.values(), strict=True)]
