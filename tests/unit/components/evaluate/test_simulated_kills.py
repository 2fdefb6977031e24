"""A thousand kills of evaluators and trainers, in simulated time, on the real queue and worker.

Only time, the processes and MLflow are played: an evaluator is a `Worker` that does one action at
a time, at simulated moments; a kill drops it, its unsent figures and its signs of life between two
actions. Some are not killed but stopped for longer than their lease lasts, and go on as if nothing
had been. Storage is fsspec's in memory, through our `ObjectStore`, and a folder for checkpoints.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from components.evaluate.queue import Holder, Queue, Terms
from components.evaluate.worker import Duties, Patience, Worker
from contract.errors import ConflictError, DataError
from contract.layout import RunLayout
from contract.records.evaluation import Verdict
from contract.records.training import CheckpointManifest, TrainingEnded
from contract.stores import ObjectStore

KILLS = 1000
KILLS_A_RUN = 25
STEPS = 8
LEASE_SECONDS = 4.0
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


class CountingStore(ObjectStore):
    """Counts how often each verdict was created."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.created: dict[str, int] = {}

    def create(self, key: str, content: str) -> bool:
        is_ours = super().create(key, content)
        if is_ours and key.startswith("verdicts/"):
            self.created[key] = self.created.get(key, 0) + 1
        return is_ours


@dataclass
class Simulation:
    """Simulated time, and everything that goes on in it."""

    run: RunLayout
    store: CountingStore
    random: random.Random
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    logged: dict[int, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    evaluators: dict[int, "Evaluator"] = field(default_factory=dict)
    trainer: "Trainer | None" = None
    kills: int = 0
    count: int = 0

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, event))

    def play(self) -> None:
        while self.events and self.now < 10_000:
            self.now, _, event = heapq.heappop(self.events)
            event()

    @property
    def is_over(self) -> bool:
        return all(one.worker.is_done for one in self.evaluators.values())


class Evaluator:
    """One process of one replica."""

    def __init__(self, world: Simulation, replica: int) -> None:
        self.world = world
        self.replica = replica
        self.attempt = world.attempts[replica] = world.attempts.get(replica, 0) + 1
        self.is_alive = True
        self.asleep_until = 0.0
        self.pause_after: float | None = None
        self.unsent: set[int] = set()
        terms = Terms(Holder(replica, self.attempt), LEASE_SECONDS, lambda: world.now)
        self.queue = Queue(world.run, world.store, terms)
        duties = Duties(
            judge=self.judge,
            announce=self.announce if replica == 0 else None,
            check=self.check,
            announced=frozenset(world.logged) if replica == 0 else frozenset(),
        )
        patience = Patience(0.3, 1e9, clock=lambda: world.now, sleep=self.sleep)
        self.worker = Worker(self.queue, duties, patience)
        world.evaluators[replica] = self
        self.beat()
        self.act()
        if replica == 0:
            world.at(2.0, self.send)

    def act(self) -> None:
        if not self.is_alive or self.worker.is_done or self.waits(self.act):
            return
        self.delay = self.world.random.uniform(0.001, 0.05)
        try:
            self.worker.advance()
        except ConflictError:
            self.is_alive = False
            return
        if self.worker.is_done:  # MLflow is flushed before a process ends
            self.flush()
        self.world.at(self.delay, self.act)

    def beat(self) -> None:
        if self.is_alive and not self.worker.is_done and not self.waits(self.beat):
            self.queue.beat()
            self.world.at(LEASE_SECONDS / 4, self.beat)

    def send(self) -> None:
        if self.is_alive and not self.waits(self.send):
            self.flush()
            if not self.worker.is_done:
                self.world.at(2.0, self.send)

    def waits(self, event: Callable[[], None]) -> bool:
        """Put an event off while the process is stopped."""
        left = self.asleep_until - self.world.now
        if left > 0:
            self.world.at(left, event)
        return left > 0

    def flush(self) -> None:
        for step in self.unsent:  # MLflow keeps one of equal figures
            self.world.logged[step] = 1
        self.unsent.clear()

    def sleep(self, seconds: float) -> None:
        self.delay = seconds

    def check(self) -> None:
        if self.world.attempts[self.replica] > self.attempt:
            raise ConflictError("overtaken")

    def judge(self, step: int) -> Verdict:
        self.delay = self.world.random.uniform(0.1, 3.0)
        manifest = CheckpointManifest.read(self.world.run.checkpoint_manifest(step))
        weights = self.world.run.checkpoint(step) / "weights"
        if not weights.exists() or weights.read_text() != manifest.files["weights"]:
            raise DataError("not what the manifest says")
        return Verdict(step=step, examples=1, metrics={}, judged_at=WHEN, lag_seconds=0.0)

    def announce(self, verdict: Verdict) -> None:
        self.unsent.add(verdict.step)


class Trainer:
    """Publishes a checkpoint now and then, the manifest last; resumes from the newest."""

    def __init__(self, world: Simulation) -> None:
        self.world = world
        self.is_alive = True
        manifests = [int(p.parent.name) for p in world.run.checkpoints.glob("*/manifest.json")]
        self.step = max(manifests, default=0)
        world.trainer = self
        self.go_on()

    def go_on(self) -> None:
        is_last = self.step >= STEPS
        then = self.end if is_last else self.write_weights
        self.world.at(self.world.random.uniform(0.5, 3.0), then)

    def write_weights(self) -> None:
        if not self.is_alive:
            return
        self.step += 1
        folder = self.world.run.checkpoint(self.step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_text("half")
        self.world.at(self.world.random.uniform(0.05, 1.0), self.publish)

    def publish(self) -> None:
        if not self.is_alive:
            return
        (self.world.run.checkpoint(self.step) / "weights").write_text(f"whole {self.step}")
        manifest = CheckpointManifest(
            step=self.step, files={"weights": f"whole {self.step}"}, written_at=WHEN
        )
        self.world.run.checkpoint_manifest(self.step).write_text(manifest.model_dump_json())
        self.go_on()

    def end(self) -> None:
        if self.is_alive:
            ended = TrainingEnded(has_succeeded=True, last_step=STEPS, reason="", ended_at=WHEN)
            self.world.run.training_ended.write_text(ended.model_dump_json())


def strike(world: Simulation) -> None:
    """Kill somebody, or stop somebody for longer than a lease, and come again."""
    if world.is_over:
        return
    replicas = sorted(world.evaluators)
    victim = world.random.choice([-1, *replicas])
    if victim == -1:
        trainer = world.trainer
        assert trainer is not None
        if not world.run.training_ended.exists():
            trainer.is_alive = False
            world.kills += 1
            world.at(world.random.uniform(0.1, 2.0), lambda: restart_trainer(world, trainer))
    elif world.random.random() < 0.2:
        world.evaluators[victim].asleep_until = world.now + world.random.uniform(1, 3) * 4
    else:
        world.evaluators[victim].is_alive = False
        world.kills += 1
        world.at(world.random.uniform(0.0, 3.0), lambda: restart(world, victim))
    if world.kills < KILLS_A_RUN:
        world.at(world.random.expovariate(1.0), lambda: strike(world))


def restart(world: Simulation, replica: int) -> None:
    if not world.evaluators[replica].is_alive:
        Evaluator(world, replica)


def restart_trainer(world: Simulation, dead: Trainer) -> None:
    if world.trainer is dead and not world.run.training_ended.exists():
        Trainer(world)


@pytest.fixture
def forgetting_memory():
    yield
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_a_thousand_kills_neither_miss_nor_double_a_verdict(tmp_path: Path, forgetting_memory):
    kills = seed = 0
    while kills < KILLS:
        run = RunLayout(tmp_path, "simulated", f"run{seed}")
        run.checkpoints.mkdir(parents=True)
        store = CountingStore(f"memory://simulated/run{seed}")
        world = Simulation(run, store, random.Random(seed))
        Trainer(world)
        for replica in range(1 + seed % 3):
            Evaluator(world, replica)
        world.at(0.5, partial(strike, world))
        world.play()
        where = f"seed {seed}, at {world.now:.1f} s"
        assert world.is_over, where
        names = {f"verdicts/{step:09d}.json": 1 for step in range(1, STEPS + 1)}
        assert world.store.created == names, where
        assert world.logged == dict.fromkeys(range(1, STEPS + 1), 1), where
        kills += world.kills
        seed += 1
