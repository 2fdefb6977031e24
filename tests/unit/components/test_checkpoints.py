"""What counts as a published checkpoint, and which ones the keep policy may remove."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.checkpoints import list_published, newest_whole, problem_of, remove_old
from contract.layout import RunLayout
from contract.records.training import CheckpointManifest
from contract.storage import digest_file


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
