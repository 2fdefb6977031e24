"""The evaluation queue on shared storage: checkpoints that wait, leases on them, their verdicts.

Below the store, which is the step's folder or a place in an object store:

    verdicts/<step>.json    created once
    leases/<step>/<token>   the holder; numbers rise, the highest one counts
    leases/<step>/<token>.released
    holders/<holder>        a count that its holder raises while it lives

No clocks of two machines are compared: a holder is lost when the observer has seen its count stand
still for `lease_seconds` of the observer's own time.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from components.evaluate.protocol import Checkpoint, Lease
from contract.errors import DataError, NotFoundError
from contract.layout import RunLayout
from contract.records.evaluation import Verdict
from contract.records.training import CheckpointManifest, TrainingEnded
from contract.storage import digest_bytes
from contract.stores import Store

_RELEASED = ".released"

log = logging.getLogger("slipway")


class Holder(NamedTuple):
    """Who judges: one attempt of one replica. A later attempt knows that the earlier ones ended."""

    replica: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.replica}.{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """Read what `str` wrote."""
        replica, _, attempt = text.partition(".")
        return cls(int(replica), int(attempt))


@dataclass(frozen=True)
class Terms:
    """How this holder takes part; `clock` is its own, in seconds."""

    holder: Holder
    lease_seconds: float
    clock: Callable[[], float] = time.monotonic


class Queue:
    """One holder's view of a run's queue."""

    def __init__(self, run: RunLayout, store: Store, terms: Terms) -> None:
        self._run = run
        self._store = store
        self._terms = terms
        self._beats = 0
        self._seen: dict[Holder, tuple[str | None, float]] = {}  # count, and since when
        self._digests: dict[int, str] = {}  # of manifests that could not be read

    @property
    def holder(self) -> Holder:
        """Who judges here."""
        return self._terms.holder

    # --- what there is to do --------------------------------------------------------------------

    def ended(self) -> TrainingEnded | None:
        """Return how training ended, if it has."""
        try:
            return TrainingEnded.read(self._run.training_ended)
        except NotFoundError:
            return None

    def checkpoints(self) -> frozenset[Checkpoint]:
        """Return the published checkpoints that had no verdict a moment ago.

        Half-written ones have no manifest and are not among them; an unreadable manifest is warned
        of, once.
        """
        judged, found = self.judged(), set()
        for folder in _folders(self._run.checkpoints):
            step = int(folder.name)
            if step not in judged and (digest := self._digest(step)):
                found.add(Checkpoint(step, digest))
        return frozenset(found)

    def judged(self) -> frozenset[int]:
        """Return the steps that have a verdict."""
        names = self._store.names("verdicts")
        return frozenset(int(n.removesuffix(".json")) for n in names if n.endswith(".json"))

    def verdict(self, step: int) -> Verdict:
        """Return a verdict that is there.

        Raises:
            DataError: If it is broken.
        """
        try:
            return Verdict.model_validate_json(self._store.read(_verdict(step)) or "", strict=False)
        except ValueError as error:
            raise DataError(f"verdict of checkpoint {step}: unreadable: {error}") from error

    # --- leases ---------------------------------------------------------------------------------

    def lease(self, step: int) -> Lease:
        """Return the newest lease of a checkpoint, and whether the next one may be taken."""
        names = self._store.names(_leases(step))
        token = max((int(name) for name in names if name.isdigit()), default=0)
        if token == 0 or f"{token}{_RELEASED}" in names:
            return Lease(token, is_free=self._store.read(_verdict(step)) is None)
        holder = Holder.parse(self._store.read(f"{_leases(step)}/{token}") or "0.0")
        return Lease(token, is_free=self._is_lost(holder))

    def claim(self, step: int, token: int) -> bool:
        """Create the lease with this number; tell whether it is ours."""
        return self._store.create(f"{_leases(step)}/{token}", str(self._terms.holder))

    def claimed_after_seconds(self, step: int, token: int) -> float:
        """Return how long after its publication a checkpoint was claimed, by the storage's clock.

        Not negative; 0 if the checkpoint is gone.
        """
        try:
            published = self._run.checkpoint_manifest(step).stat().st_mtime
        except FileNotFoundError:
            return 0.0
        return max(0.0, self._store.written_at(f"{_leases(step)}/{token}") - published)

    def holds(self, step: int, token: int) -> bool:
        """Tell whether nobody has taken a later lease."""
        return f"{token + 1}" not in self._store.names(_leases(step))

    def release(self, step: int, token: int) -> None:
        """Let others have the checkpoint at once."""
        self._store.create(f"{_leases(step)}/{token}{_RELEASED}", str(self._terms.holder))

    def beat(self) -> None:
        """Show that this holder lives; to be called more often than every `lease_seconds`."""
        self._beats += 1
        self._store.write(f"holders/{self._terms.holder}", str(self._beats))

    def publish(self, verdict: Verdict) -> bool:
        """Create the verdict of a checkpoint; tell whether it is ours, or another was there."""
        return self._store.create(_verdict(verdict.step), verdict.model_dump_json(indent=2))

    def _is_lost(self, holder: Holder) -> bool:
        mine, now = self._terms.holder, self._terms.clock()
        if holder.replica == mine.replica:
            return holder.attempt <= mine.attempt
        count = self._store.read(f"holders/{holder}")
        seen, since = self._seen.setdefault(holder, (count, now))
        if count != seen:
            self._seen[holder] = (count, now)
            return False
        return now - since >= self._terms.lease_seconds

    def _digest(self, step: int) -> str:
        try:
            content = self._run.checkpoint_manifest(step).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return ""  # half-written, or removed by the trainer's keep policy
        digest = digest_bytes(content)
        if self._digests.get(step) == digest:
            return ""
        try:
            CheckpointManifest.model_validate_json(content, strict=False)
        except ValueError as error:
            self._digests[step] = digest
            path = self._run.checkpoint_manifest(step)
            log.warning("evaluate: checkpoint %d skipped: %s: unreadable: %s", step, path, error)
            return ""
        return digest


def _folders(path: Path) -> list[Path]:
    try:
        return [child for child in path.iterdir() if child.name.isdigit()]
    except FileNotFoundError:
        return []


def _verdict(step: int) -> str:
    return f"verdicts/{step:09d}.json"


def _leases(step: int) -> str:
    return f"leases/{step:09d}"
