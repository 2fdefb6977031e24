"""What counts as a published checkpoint, and which ones the keep policy may remove."""

import itertools
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.models import checkpoints
from components.models.checkpoints import (
    WEIGHTS_FILE,
    Snapshot,
    list_published,
    newest_whole,
    problem_of,
    remove_old,
)
from contract.layout import RunLayout
from contract.records.training import CheckpointManifest
from contract.storage import Attempt, digest_file


def publish(run: RunLayout, step: int, content: bytes = b"weights") -> CheckpointManifest:
    weights = run.checkpoint(step) / "weights.npz"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(content)
    files = {weights.name: digest_file(weights)}
    manifest = CheckpointManifest(step=step, files=files, written_at=datetime.now(UTC))
    manifest.write(run.checkpoint_manifest(step))
    return manifest


def judge(run: RunLayout, step: int) -> None:
    run.verdict(step).parent.mkdir(parents=True, exist_ok=True)
    run.verdict(step).write_text("{}")


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path, "digits", "r1")


def test_no_folder_means_no_checkpoints(run):
    assert list_published(run) == []
    assert newest_whole(run) is None


def test_published_are_listed_by_rising_step(run):
    for step in (200, 1_000_000, 30):
        publish(run, step)
    assert [manifest.step for manifest in list_published(run)] == [30, 200, 1_000_000]


def test_folder_without_a_manifest_does_not_count(run):
    publish(run, 10)
    publish(run, 20)
    run.checkpoint_manifest(20).unlink()
    (run.checkpoints / ".000000030.tmp-x").mkdir()
    assert [manifest.step for manifest in list_published(run)] == [10]


def test_half_a_manifest_is_skipped_and_named(run, caplog):
    publish(run, 10)
    publish(run, 20)
    path = run.checkpoint_manifest(20)
    path.write_bytes(path.read_bytes()[:40])
    assert [manifest.step for manifest in list_published(run)] == [10]
    assert f"checkpoint skipped: {path}" in caplog.text


def test_changed_file_is_named_and_the_one_before_is_newest(run, caplog):
    publish(run, 10)
    manifest = publish(run, 20)
    weights = run.checkpoint(20) / "weights.npz"
    weights.write_bytes(b"weighty")
    assert problem_of(run, manifest) == f"{weights}: corrupt, its digest is not the manifest's"
    newest = newest_whole(run)
    assert newest is not None
    assert newest.step == 10
    assert f"checkpoint 20 skipped: {weights}: corrupt" in caplog.text


def test_missing_file_is_named(run):
    manifest = publish(run, 10)
    weights = run.checkpoint(10) / "weights.npz"
    weights.unlink()
    assert problem_of(run, manifest) == f"{weights}: missing"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    judged=st.sets(st.integers(1, 8)), keep=st.integers(1, 8), best=st.none() | st.integers(1, 8)
)
def test_keep_policy_spares_the_newest_the_unjudged_and_the_best(
    tmp_path_factory, judged, keep, best
):
    run = RunLayout(tmp_path_factory.mktemp("root"), "digits", "r1")
    for step in range(1, 9):
        publish(run, step)
    for step in judged:
        judge(run, step)
    removed = remove_old(run, keep, best)
    left = [manifest.step for manifest in list_published(run)]
    assert sorted(left + removed) == list(range(1, 9))
    assert set(removed) == {s for s in judged if s <= 8 - keep and s != best}
    assert not any(run.checkpoint(step).exists() for step in removed)


def test_one_snapshot_is_written_at_a_time_so_that_a_kill_loses_no_more():
    begun, may_end = [], threading.Event()

    def write(step: int, _: Snapshot) -> None:
        begun.append(step)
        assert may_end.wait(10)

    writer = checkpoints.Writer(write)
    writer.submit(10, Snapshot({}, {}))
    second = threading.Thread(target=writer.submit, args=(20, Snapshot({}, {})))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert begun == [10]
    may_end.set()
    second.join(10)
    writer.wait()
    assert begun == [10, 20]


# --- killed at any moment -----------------------------------------------------------------------

FILE_OPERATIONS = ("open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
NAME, VALUES = "00000:dense/kernel", 10_000


def publish_step(run: RunLayout, step: int) -> None:
    """Do what the trainer's writer does: publish, then remove what is too old."""
    snapshot = Snapshot(
        {NAME: np.full(VALUES, step, np.float32)}, {"position": np.full(VALUES, step, np.int64)}
    )
    checkpoints.publish(run, Attempt(run.attempts("train"), 1), step, snapshot)
    remove_old(run, keep=1, best_step=None)


def killed(prepare: Callable[[], None], work: Callable[[], None]) -> bool:
    """Do `work` in a process of its own, which `prepare` makes mortal; return whether it died."""
    if (pid := os.fork()) == 0:
        try:
            prepare()
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status)
    return status != 0


def die_before(operation: int, root: Path, log: Path) -> None:
    """Have this process killed just before a file operation below `root`, which it notes."""
    left = [operation]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_OPERATIONS and str(arguments[0]).startswith(str(root)):
            left[0] -= 1
            if left[0] == 0:
                log.write_text(f"{event} {arguments[0]}")
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def assert_resumes_from(run: RunLayout, step: int) -> None:
    """Check that the newest whole checkpoint is `step`'s, and that the next attempt goes on."""
    newest = newest_whole(run)
    assert newest is not None
    assert newest.step == step
    for expected in (step, 20):
        with np.load(run.checkpoint(expected) / WEIGHTS_FILE) as weights:
            assert np.all(weights[NAME] == expected)
        assert np.all(checkpoints.load_training(run, expected)["position"] == expected)
        publish_step(run, 20)
    assert [manifest.step for manifest in list_published(run)] == [20]
    assert [path.name for path in run.checkpoints.iterdir()] == [run.checkpoint(20).name]


def test_a_kill_before_any_file_operation_leaves_the_last_whole_checkpoint(tmp_path):
    seen, log, is_published = [], tmp_path / "log", False
    for operation in itertools.count(1):
        root = tmp_path / f"root{operation}"
        run = RunLayout(root, "digits", "r1")
        publish_step(run, 10)
        judge(run, 10)
        has_died = killed(partial(die_before, operation, root, log), partial(publish_step, run, 20))
        assert_resumes_from(run, 20 if is_published else 10)
        if not has_died:
            break
        seen.append(log.read_text())
        is_published = is_published or (seen[-1].startswith("os.rename") and "manifest" in seen[-1])
    assert is_published
    for part in ("weights.npz", "training.npz", "os.rename", "os.remove", ".manifest.json"):
        assert any(part in one for one in seen), seen


@pytest.mark.parametrize("size_bytes", [1, 30_000, 60_000])
def test_a_kill_while_an_array_is_written_leaves_the_last_whole_checkpoint(tmp_path, size_bytes):
    run = RunLayout(tmp_path, "digits", "r1")
    publish_step(run, 10)
    judge(run, 10)

    def die_at_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    assert killed(die_at_size, lambda: publish_step(run, 20))
    assert_resumes_from(run, 10)
