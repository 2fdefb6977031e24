"""How much of a request's rows the shadow answers otherwise than the stable version did.

Envoy gives a request and its copy one id; both servers log under it. A request is one sample,
however many rows it has: its rows are alike, so its figure is the share of them that differ. Rows
are compared head by head: by class, or, where a head gives a number, by whether both are further
apart than the stable model's own error; a head whose error is not known is left out.

A request that the shadow refuses (4xx) and stable answers differs in all rows, and is also counted
separately. What both refuse is the caller's error; what stable alone refuses is not the shadow's.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from contract.errors import DataError
from contract.prediction_log.columns import PREDICTED
from contract.prediction_log.following import LogTail
from contract.records.record import Record
from serving.traffic.backend import Version

_ANSWERED = 200
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # in the states of 0.1.0, whose logs are not read

# Answers that wait for their twin. Most never get one: direct requests, copies turned away.
_MAX_WAITING = 20_000

LogFolder = Callable[[Version], Path]
OwnErrors = Callable[[Version], Mapping[str, float]]  # of the heads that give numbers


_COLUMNS = ("request_id", "row", "status", PREDICTED)


class PairingState(Record):
    """What one comparison has come to; written with the offsets it stands at, so that a restarted
    agent counts no pair twice. Twins of which one was read before the restart are lost."""

    stable: int
    shadow: int
    is_open: bool = True
    since: datetime = Field(_NEVER, description="When the comparison began.")
    stable_offsets: dict[str, int] = Field({}, description="Rows read, by server process.")
    shadow_offsets: dict[str, int] = Field({}, description="Rows read, by server process.")
    compared: int = 0
    disagreements: float = 0.0
    refused_alone: int = 0


class Pairing:
    """The comparison of one stable version with one shadow."""

    def __init__(
        self,
        folders: tuple[Path, Path],
        state: PairingState,
        own_errors: Mapping[str, float],
        is_resumed: bool,
    ) -> None:
        stable, shadow = folders
        self._state, self._own_errors = state, own_errors
        since = state.since
        self._stable = LogTail(stable, since, state.stable_offsets if is_resumed else None)
        self._shadow = LogTail(shadow, since, state.shadow_offsets if is_resumed else None)
        self._waiting: OrderedDict[str, tuple[bool, list[Any] | None]] = OrderedDict()
        self.compared = state.compared
        self.disagreements = state.disagreements
        self.refused_alone = state.refused_alone

    @property
    def versions(self) -> tuple[int, int]:
        """The stable version and the shadow."""
        return self._state.stable, self._state.shadow

    def update(self) -> bool:
        """Read what was logged since; True if there was anything."""
        before = (dict(self._stable.offsets), dict(self._shadow.offsets))
        for is_shadow, tail in ((False, self._stable), (True, self._shadow)):
            for table in tail.read(_COLUMNS):
                for request_id, predictions in _requests(table):
                    self._take(is_shadow, request_id, predictions)
        return before != (self._stable.offsets, self._shadow.offsets)

    def state(self, is_open: bool) -> PairingState:
        """Return what to remember."""
        now = {
            "is_open": is_open,
            "stable_offsets": dict(self._stable.offsets),
            "shadow_offsets": dict(self._shadow.offsets),
            "compared": self.compared,
            "disagreements": self.disagreements,
            "refused_alone": self.refused_alone,
        }
        return self._state.model_copy(update=now)

    def _take(self, is_shadow: bool, request_id: str, predictions: list[Any] | None) -> None:
        """Count a request if its twin is there; `predictions` is None if it was refused."""
        twin = self._waiting.get(request_id)
        if twin is None or twin[0] == is_shadow:
            self._waiting[request_id] = (is_shadow, predictions)
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
            return
        del self._waiting[request_id]
        stable, shadow = (twin[1], predictions) if is_shadow else (predictions, twin[1])
        if stable is None:
            return
        self.refused_alone += shadow is None
        share = 1.0 if shadow is None else differing_share(stable, shadow, self._own_errors)
        if share is not None:
            self.compared += 1
            self.disagreements += share


class DisagreementCounter:
    """All comparisons of one agent; `follow` and `update` may be called from two threads."""

    def __init__(
        self,
        state_folder: Path,
        log_folder: LogFolder,
        own_errors: OwnErrors = lambda _: {},
    ) -> None:
        self._state_folder = state_folder
        self._log_folder = log_folder
        self._own_errors = own_errors
        self._open: dict[str, Pairing] = {}
        self._counts: dict[Version, tuple[int, float, int]] = {}
        self._lock = threading.Lock()

    def follow(self, pipeline: str, stable: int | None, shadow: int | None) -> None:
        """Compare these two from now on; without a shadow, nothing.

        Call it before the shadow gets traffic: only what is logged afterwards is read.
        """
        wanted = (stable, shadow) if stable is not None and shadow is not None else None
        with self._lock:
            pairing = self._open.get(pipeline)
            if (pairing.versions if pairing else None) == wanted:
                return
            if pairing is not None:
                pairing.update()
                self._remember(pipeline, pairing, is_open=False)
                del self._open[pipeline]
            if wanted is not None:
                self._open[pipeline] = self._begin(pipeline, *wanted)

    def update(self) -> None:
        """Read what was logged since the last call."""
        with self._lock:
            for pipeline, pairing in self._open.items():
                if pairing.update():
                    self._remember(pipeline, pairing, is_open=True)

    def counts(self, version: Version) -> tuple[int, float]:
        """Return a shadow's requests compared, and the sum of their shares of differing rows."""
        return self._all_counts(version)[:2]

    def refused_alone(self, version: Version) -> int:
        """Return how many requests a shadow has refused that the stable version answered."""
        return self._all_counts(version)[2]

    def forget(self, version: Version) -> None:
        """Drop the counts of a version that runs no more."""
        self._path(version).unlink(missing_ok=True)
        self._counts.pop(version, None)

    def _all_counts(self, version: Version) -> tuple[int, float, int]:
        if version not in self._counts:
            state = self._read(version) or PairingState(stable=0, shadow=version[1])
            self._counts[version] = (state.compared, state.disagreements, state.refused_alone)
        return self._counts[version]

    def _begin(self, pipeline: str, stable: int, shadow: int) -> Pairing:
        folders = (self._log_folder((pipeline, stable)), self._log_folder((pipeline, shadow)))
        own_errors = self._own_errors((pipeline, stable))
        old = self._read((pipeline, shadow))
        if old is not None and old.is_open and old.stable == stable:
            return Pairing(folders, old, own_errors, is_resumed=True)
        state = PairingState(stable=stable, shadow=shadow, since=datetime.now(UTC))
        if old is not None:
            names = ("compared", "disagreements", "refused_alone")
            state = state.model_copy(update={name: getattr(old, name) for name in names})
        pairing = Pairing(folders, state, own_errors, is_resumed=False)
        self._remember(pipeline, pairing, is_open=True)
        return pairing

    def _remember(self, pipeline: str, pairing: Pairing, is_open: bool) -> None:
        version = (pipeline, pairing.versions[1])
        pairing.state(is_open).write(self._path(version))
        self._counts[version] = (pairing.compared, pairing.disagreements, pairing.refused_alone)

    def _read(self, version: Version) -> PairingState | None:
        path = self._path(version)
        try:
            return PairingState.read(path) if path.exists() else None
        except DataError:  # the counts restart, so that the agent can start
            return None

    def _path(self, version: Version) -> Path:
        return self._state_folder / f"{version[0]}-{version[1]}.json"


def _requests(table: pa.Table) -> Iterator[tuple[str, list[dict[str, Any]] | None]]:
    """Yield each request's id and its predictions by head, a mapping a row; None if refused."""
    rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
    for name in table.column_names:
        if name.startswith(PREDICTED):
            for row, value in zip(rows, table[name].to_pylist(), strict=True):
                if value is not None:  # null: the signature does not answer for this head
                    row[name.removeprefix(PREDICTED)] = value
    starts = [place for place, row in enumerate(table["row"].to_pylist()) if row == 0]
    ids, status = table["request_id"].to_pylist(), table["status"].to_pylist()
    for start, end in pairwise([*starts, len(table)]):
        yield ids[start], rows[start:end] if status[start] == _ANSWERED else None


def differing_share(
    stable: Sequence[Any], shadow: Sequence[Any], own_errors: Mapping[str, float]
) -> float | None:
    """Return the share of rows that two answers to one request differ in; None if incomparable.

    Args:
        stable: Per row the prediction by head: a class index (int), or a number (float).
        shadow: The same rows, as the other version answered them.
        own_errors: By how much two numbers of a head may differ and be the same answer.
    """
    compared = differing = 0
    for one, other in zip(stable, shadow, strict=False):
        pairs = [(head, one[head], other[head]) for head in one.keys() & other.keys()]
        pairs = [pair for pair in pairs if pair[0] in own_errors or not _has_number(*pair[1:])]
        compared += bool(pairs)
        differing += any(
            _differs(mine, theirs, own_errors.get(head)) for head, mine, theirs in pairs
        )
    return differing / compared if compared else None


def _has_number(*values: Any) -> bool:
    return any(isinstance(value, float) for value in values)


def _differs(mine: Any, theirs: Any, tolerance: float | None) -> bool:
    if tolerance is None or mine is None or theirs is None:
        return bool(mine != theirs)
    return abs(float(mine) - float(theirs)) > tolerance
