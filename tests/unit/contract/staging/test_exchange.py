"""Training and evaluation on two machines tell each other by way of the store."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from contract.errors import StorageError
from contract.layout import RunLayout
from contract.records.evaluation import ModelRefused, Verdict
from contract.records.training import CheckpointManifest, TrainingEnded
from contract.staging.bucket import Bucket
from contract.staging.exchange import Exchange
from contract.staging.scratch import SCRATCH, scratch_of
from contract.staging.stored_run import StoredRun
from contract.storage import Attempt, digest_file
from contract.stores import store_of

ROOT = "memory://bucket/models"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Side:
    """A trainer or an evaluator on a machine."""

    def __init__(self, home: Path, name: str, step: str) -> None:
        self.run = RunLayout(scratch_of(ROOT, {SCRATCH: str(home / name)}), "houses", "r1")
        self.attempt = Attempt.claim(self.run.attempts(step))
        stored = StoredRun(self.run, Bucket(f"{ROOT}/houses"))
        self.exchange = Exchange(stored, self.attempt, is_training=step == "train")
        self.exchange.begin()

    def save(self, step: int, weights: str) -> None:
        folder = self.run.checkpoint(step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.npz").write_text(weights)
        files = {"weights.npz": digest_file(folder / "weights.npz")}
        CheckpointManifest(step=step, files=files, written_at=NOW).write(
            self.run.checkpoint_manifest(step)
        )

    def end(self, *, has_succeeded: bool = True) -> None:
        TrainingEnded(has_succeeded=has_succeeded, last_step=2, reason="", ended_at=NOW).write(
            self.run.training_ended
        )

    def judge(self, step: int) -> None:
        verdict = Verdict(step=step, examples=1, metrics={}, judged_at=NOW, lag_seconds=0.0)
        text = verdict.model_dump_json()
        assert store_of(self.run.evaluation_queue).create(f"verdicts/{step:09d}.json", text)

    def weights(self) -> dict[int, str]:
        """Return the weights of the checkpoints that are published here, by step."""
        paths = sorted(self.run.checkpoints.glob("[0-9]*/manifest.json"))
        return {int(p.parent.name): (p.parent / "weights.npz").read_text() for p in paths}


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Callable[[str, str], Side]]:
    yield lambda name, step: Side(tmp_path, name, step)
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_checkpoints_come_whole_and_the_end_comes_after_them(
    side: Callable[[str, str], Side],
) -> None:
    trainer, evaluator = side("a", "train"), side("b", "evaluate")
    trainer.save(1, "one")
    half = trainer.run.checkpoint(2)
    half.mkdir()
    (half / "weights.npz").write_text("half")
    trainer.exchange.exchange()
    evaluator.exchange.exchange()
    assert evaluator.weights() == {1: "one"}
    assert not evaluator.run.training_ended.exists()

    with trainer.exchange.running():
        trainer.save(2, "two")
        trainer.end()
    evaluator.exchange.exchange()
    assert evaluator.weights() == {1: "one", 2: "two"}
    assert TrainingEnded.read(evaluator.run.training_ended).has_succeeded


def test_verdicts_and_a_refusal_reach_the_trainer(side: Callable[[str, str], Side]) -> None:
    trainer, evaluator = side("a", "train"), side("b", "evaluate")
    trainer.save(1, "one")
    trainer.exchange.exchange()
    evaluator.judge(1)
    ModelRefused(step=1, reason="rows depend on each other").write(evaluator.run.model_refused)
    evaluator.exchange.exchange()
    trainer.exchange.exchange()
    assert Verdict.read(trainer.run.verdict(1)).step == 1
    assert ModelRefused.read(trainer.run.model_refused).reason == "rows depend on each other"


def test_a_checkpoint_that_the_trainer_removes_leaves_the_store_and_the_evaluator(
    side: Callable[[str, str], Side],
) -> None:
    trainer, evaluator = side("a", "train"), side("b", "evaluate")
    trainer.save(1, "one")
    trainer.save(2, "two")
    trainer.exchange.exchange()
    evaluator.exchange.exchange()
    trainer.run.checkpoint_manifest(1).unlink()
    trainer.exchange.exchange()
    evaluator.exchange.exchange()
    assert evaluator.weights() == {2: "two"}
    kept = [file.getvalue() for path, file in MemoryFileSystem.store.items() if "objects" in path]
    assert b"one" not in kept
    assert b"two" in kept


def test_a_retry_elsewhere_continues_from_the_store_and_not_from_old_copies(
    side: Callable[[str, str], Side],
) -> None:
    first = side("a", "train")
    first.save(1, "one")
    first.exchange.exchange()
    first.save(2, "never uploaded")
    first.end(has_succeeded=False)
    second = side("b", "train")
    assert second.weights() == {1: "one"}
    second.save(2, "two")
    second.exchange.exchange()
    third = side("a", "train")
    assert third.weights() == {1: "one", 2: "two"}
    assert not third.run.training_ended.exists()


def test_a_retry_on_the_same_machine_keeps_what_was_not_uploaded_yet(
    side: Callable[[str, str], Side],
) -> None:
    first = side("a", "train")
    first.save(1, "one")
    first.exchange.exchange()
    first.save(2, "two")
    second = side("a", "train")
    second.exchange.exchange()
    evaluator = side("b", "evaluate")
    evaluator.exchange.exchange()
    assert evaluator.weights() == {1: "one", 2: "two"}


def test_trainer_and_evaluator_of_one_machine_fetch_one_after_the_other(
    side: Callable[[str, str], Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, evaluator = side("a", "train"), side("b", "evaluate")
    for step in (1, 2):
        first.save(step, str(step))
    first.exchange.exchange()
    waited: list[bool] = []
    get, thread = MemoryFileSystem.get_file, threading.Thread(target=evaluator.exchange.exchange)

    def meanwhile(self: MemoryFileSystem, *arguments: object, **options: object) -> None:
        if thread.ident is None:
            thread.start()
            thread.join(0.1)
            waited.append(thread.is_alive())
        get(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", meanwhile)
    assert side("b", "train").weights() == {1: "1", 2: "2"}
    thread.join()
    assert waited == [True]
    assert evaluator.weights() == {1: "1", 2: "2"}


def test_what_a_failed_attempt_said_is_not_heard_by_the_next_evaluation(
    side: Callable[[str, str], Side],
) -> None:
    first = side("a", "train")
    first.end(has_succeeded=False)
    first.exchange.exchange()
    side("b", "train")
    evaluator = side("c", "evaluate")
    evaluator.exchange.exchange()
    assert not evaluator.run.training_ended.exists()


def test_a_store_that_does_not_take_a_checkpoint_fails_the_training_at_its_end(
    side: Callable[[str, str], Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError("the network is gone")

    trainer, evaluator = side("a", "train"), side("b", "evaluate")
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "put_file", gone)
        with pytest.raises(StorageError, match="the network is gone"), trainer.exchange.running():
            trainer.save(1, "one")
            trainer.end()
    evaluator.exchange.exchange()
    assert evaluator.weights() == {}
    assert not evaluator.run.training_ended.exists()
