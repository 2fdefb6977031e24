"""Forks trainers and evaluators that are meant to be killed; imports what they need only once.

Each line on stdin, `trainer` or `evaluator <replica>`, starts a process; its id is answered. They
run the real queue, worker, leases and attempts on a real folder. Small is only what they train and
judge (a few numbers), and MLflow, whose metrics table is a SQLite file with the same key.
"""

import os
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from components.evaluate.queue import Holder, Queue, Terms
from components.evaluate.worker import Duties, Patience, Worker, heartbeat
from contract.errors import DataError
from contract.layout import RunLayout
from contract.records.evaluation import Metric, Verdict
from contract.records.training import CheckpointManifest, TrainingEnded
from contract.storage import Attempt, digest_file, publish_directory
from contract.stores import FolderStore

LEASE_SECONDS = 1.0


def weights_of(step: int) -> np.ndarray:
    """Return what training has come to after a step."""
    return np.random.default_rng(step).normal(size=(200, 50))


# --- trainer ------------------------------------------------------------------------------------


def train(run: RunLayout, steps: int) -> None:
    attempt = Attempt.claim(run.attempts("train"))
    for step in range(newest_whole(run) + 1, steps + 1):
        time.sleep(0.1)
        with publish_directory(run.checkpoint(step)) as temporary:
            np.save(temporary / "weights.npy", weights_of(step))
            files = {"weights.npy": digest_file(temporary / "weights.npy")}
            attempt.check()
        time.sleep(0.05)  # a moment in which all is there but the manifest
        manifest = CheckpointManifest(step=step, files=files, written_at=datetime.now(UTC))
        manifest.write(run.checkpoint_manifest(step))
    ended = TrainingEnded(
        has_succeeded=True, last_step=steps, reason="", ended_at=datetime.now(UTC)
    )
    ended.write(run.training_ended)


def newest_whole(run: RunLayout) -> int:
    steps = [int(path.parent.name) for path in run.checkpoints.glob("[0-9]*/manifest.json")]
    return max(steps, default=0)


# --- evaluator ----------------------------------------------------------------------------------


class Metrics:
    """MLflow's table of metrics; what is logged is written half a second later."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, timeout=30)
        self._base.execute(
            "create table if not exists metrics (key, step, timestamp, value, "
            "primary key (key, step, timestamp, value))"
        )
        self._waiting: list[tuple[str, int, float, float]] = []
        self._sent_at = time.monotonic()

    def steps(self) -> frozenset[int]:
        found = self._base.execute("select step from metrics where key = 'lag_seconds'")
        return frozenset(step for (step,) in found)

    def log(self, verdict: Verdict) -> None:
        when = verdict.judged_at.timestamp()
        value = verdict.metrics["head"]["mean"].value
        self._waiting.append(("mean", verdict.step, when, value))
        self._waiting.append(("lag_seconds", verdict.step, when, verdict.lag_seconds))

    def send(self, is_last: bool = False) -> bool:
        if self._waiting and (is_last or time.monotonic() - self._sent_at > 0.5):
            self._sent_at = time.monotonic()
            self._base.executemany(
                "insert or ignore into metrics values (?, ?, ?, ?)", self._waiting
            )
            self._base.commit()
            self._waiting.clear()
        return False


def evaluate(run: RunLayout, replica: int, journal: Path) -> None:
    attempt = Attempt.claim(run.attempts("evaluate", replica))
    metrics = Metrics(journal.with_suffix(".db"))
    queue = Queue(
        run,
        JournallingStore(run.evaluation_queue, journal),
        Terms(Holder(replica, attempt.number), LEASE_SECONDS),
    )
    duties = Duties(
        judge=lambda step: judge(run, step),
        announce=metrics.log if replica == 0 else None,
        check=attempt.check,
        idle=metrics.send if replica == 0 else lambda: False,
        announced=metrics.steps() if replica == 0 else frozenset(),
    )
    with heartbeat(queue, LEASE_SECONDS):
        Worker(queue, duties, Patience(poll_seconds=0.03, timeout_seconds=60)).work_off()
        metrics.send(is_last=True)
    with journal.open("a") as file:
        file.write(f"end {replica}\n")


def judge(run: RunLayout, step: int) -> Verdict:
    path = run.checkpoint(step) / "weights.npy"
    manifest = CheckpointManifest.read(run.checkpoint_manifest(step))
    if not path.exists() or digest_file(path) != manifest.files["weights.npy"]:
        raise DataError(f"{path}: not what the manifest says")
    time.sleep(0.15)
    mean = float(np.load(path).mean())
    return Verdict(
        step=step,
        examples=200,
        metrics={"head": {"mean": Metric(value=mean, low=mean, high=mean)}},
        judged_at=datetime.now(UTC),
        lag_seconds=0.0,
    )


class JournallingStore(FolderStore):
    """Notes which verdicts it created; a line is appended at once or, on a kill, not at all."""

    def __init__(self, path: Path, journal: Path) -> None:
        super().__init__(path)
        self._journal = journal

    def create(self, key: str, content: str) -> bool:
        is_ours = super().create(key, content)
        if is_ours and key.startswith("verdicts/"):
            with self._journal.open("a") as file:
                file.write(f"{key}\n")
        return is_ours


# --- the nursery itself -------------------------------------------------------------------------


def main() -> None:
    root, steps, journal = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    run = RunLayout(root, "kills", "run")
    for line in sys.stdin:
        what, _, replica = line.strip().partition(" ")
        child = os.fork()
        if child:
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()
            continue
        code = 1
        try:
            train(run, steps) if what == "trainer" else evaluate(run, int(replica), journal)
            code = 0
        finally:
            os._exit(code)


if __name__ == "__main__":
    main()
