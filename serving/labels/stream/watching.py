"""Follows the logs of a pipeline's versions while somebody looks, once for all who do.

Everything that is kept has a size: the last events, requests that wait for their twin, and rows of
one look. A reader keeps nothing but a number, and is dropped when the events that it has not seen
are gone.
"""

import logging
import threading
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from contract.errors import DataError, NotFoundError
from contract.layout import PipelineLayout
from contract.prediction_log.columns import CONFIDENCE, FIXED, INPUT, PREDICTED
from contract.prediction_log.following import LogTail, newest_rows
from contract.prediction_log.reading import predictions_of
from contract.records.package import PackageManifest
from serving.labels.stream.rows import LiveRow, live_row

log = logging.getLogger("slipway")

_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 30.0  # without readers, after which it stops
_AT_FIRST = 50  # rows of each server process
_MOST_ROWS = 250  # of one version in one look
_MOST_EVENTS = 1_000
_MOST_WAITING = 5_000  # requests whose twin may come
_COLUMNS = (*FIXED.names, PREDICTED, CONFIDENCE, INPUT)


@dataclass(frozen=True)
class Event:
    """A row, or a row with the other version's answer to the same request.

    `left_out` are rows of the same look that were too many to be shown.
    """

    number: int
    row: LiveRow
    twin: LiveRow | None = None
    left_out: int = 0


class LostError(Exception):
    """A reader was so slow that the events it has not seen are gone."""


class Watch:
    """One pipeline's stream."""

    def __init__(self, layout: PipelineLayout) -> None:
        self._layout = layout
        self._tails: dict[int, LogTail] = {}
        self._manifests: dict[int, PackageManifest | None] = {}
        self._waiting: OrderedDict[tuple[str, int], LiveRow] = OrderedDict()
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._next = 1
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._asked_at = 0.0

    def since(self, number: int) -> list[Event]:
        """Return the events after one; 0 is the beginning of what is kept. Never waits for a disk.

        Raises:
            LostError: If some of them are gone.
        """
        self._asked_at = time.monotonic()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="stream")
                self._thread.start()
            first = self._events[0].number if self._events else self._next
            if 0 < number < first - 1:
                raise LostError
            return [event for event in self._events if event.number > number]

    @property
    def classes(self) -> list[str]:
        """The classes of all heads of the newest version."""
        kept = self._layout.kept_versions()
        manifest = self._manifest(kept[-1]) if kept else None
        heads = manifest.heads.values() if manifest else ()
        return sorted({name for head in heads for name in head.classes})

    def versions(self) -> list[int]:
        """Return the versions that have a log, rising."""
        folders = self._layout.prediction_logs.glob("*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())

    # --- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._is_idle():
                try:
                    self.look()
                except (OSError, DataError) as error:
                    log.warning("prediction stream of %s: %s", self._layout.pipeline, error)
                time.sleep(_LOOK_SECONDS)
        except BaseException:  # a fault of ours: the next reader starts another thread
            with self._lock:
                self._thread = None
            raise

    def _is_idle(self) -> bool:
        """Tell whether nobody looks any more; what was kept is gone then."""
        with self._lock:
            if time.monotonic() <= self._asked_at + _IDLE_SECONDS:
                return False
            self._thread = None
            self._tails.clear()
            self._events.clear()
            self._waiting.clear()
            return True

    def look(self) -> None:
        """Read what was logged since the last look."""
        found, left_out = list[LiveRow](), 0
        for version in self.versions():
            rows, more = self._read(version)
            found += rows
            left_out += more
        with self._lock:
            for row in sorted(found, key=lambda one: one.time):
                self._append(row, left_out)
                left_out = 0

    def _read(self, version: int) -> tuple[list[LiveRow], int]:
        folder = self._layout.predictions(version)
        if version not in self._tails:
            offsets = newest_rows(folder, _AT_FIRST)
            self._tails[version] = LogTail(folder, datetime.now(UTC), offsets)
        tables = [*self._tails[version].read(_COLUMNS)]
        kept = [*_chosen(tables)]
        manifest = self._manifest(version)
        rows = [live_row(one, manifest) for table in kept for one in predictions_of(table)]
        return rows, sum(map(len, tables)) - len(rows)

    def _append(self, row: LiveRow, left_out: int) -> None:
        twin = self._twin(row)
        self._events.append(Event(self._next, row, twin, left_out))
        self._next += 1

    def _twin(self, row: LiveRow) -> LiveRow | None:
        """Return another version's answer to the same row, the row itself waits where none is."""
        other = self._waiting.get(row.key)
        if other is not None and other.version != row.version:
            del self._waiting[row.key]
            return other
        self._waiting[row.key] = row
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        return None

    def _manifest(self, version: int) -> PackageManifest | None:
        if version not in self._manifests:
            try:
                path = self._layout.package_manifest(version)
                self._manifests[version] = PackageManifest.read(path)
            except (NotFoundError, DataError):
                self._manifests[version] = None
        return self._manifests[version]


def _chosen(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables without rows beyond the most of a look.

    The same requests of each version stay, so that those find each other.
    """
    if sum(map(len, tables)) <= _MOST_ROWS:
        yield from tables
        return
    marks = [
        [zlib.crc32(name.encode()) for name in table["request_id"].to_pylist()] for table in tables
    ]
    most = sorted(mark for own in marks for mark in own)[_MOST_ROWS - 1]
    left = _MOST_ROWS
    for table, own in zip(tables, marks, strict=True):
        kept = [at for at, mark in enumerate(own) if mark <= most][:left]
        left -= len(kept)
        yield table.take(pa.array(kept, pa.int64()))


class Watches:
    """The streams of the pipelines below an artifact root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Watch] = {}
        self._lock = threading.Lock()

    def pipelines(self) -> list[str]:
        """Return the pipelines that have a prediction log."""
        return sorted(path.parent.parent.name for path in self._root.glob("*/serving/predictions"))

    def of(self, pipeline: str) -> Watch:
        """Return a pipeline's stream.

        Raises:
            NotFoundError: If there is no prediction log of that name.
        """
        if pipeline not in self.pipelines():
            raise NotFoundError(
                f"no prediction log of '{pipeline[:100]}' below {self._root}: a version in service "
                "writes one with its first answers"
            )
        with self._lock:
            if pipeline not in self._known:
                self._known[pipeline] = Watch(PipelineLayout(self._root, pipeline))
            return self._known[pipeline]
