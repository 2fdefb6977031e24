"""Who hangs, by the records of a job's chief."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract.records.training import Hang
from launching.hangs import hanging
from launching.job_spec import JobSpec, Replica

NOTED = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
WORKERS = [Replica("worker", index) for index in range(3)]


def job(folder: Path) -> JobSpec:
    replicas = {"chief": 1, "worker": 3}
    return JobSpec(name="j", step="train", command=(), replicas=replicas, hangs=str(folder))


def note(folder: Path, role: str) -> Hang:
    hang = Hang(role=role, reason="not heard of for 8 s", noted_at=NOTED)
    hang.write(folder / f"{role}.json")
    return hang


def test_a_replica_hangs_if_it_was_started_before_the_chief_noted_it(tmp_path: Path) -> None:
    hang = note(tmp_path, "worker-1")
    started = dict.fromkeys(WORKERS, NOTED - timedelta(milliseconds=123))
    assert hanging(job(tmp_path), started) == {Replica("worker", 1): hang}


def test_a_record_about_an_earlier_process_does_not_count(tmp_path: Path) -> None:
    note(tmp_path, "worker-1")
    assert hanging(job(tmp_path), dict.fromkeys(WORKERS, NOTED)) == {}


def test_a_record_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "worker-0.json").write_text("{")
    note(tmp_path, "worker-2")
    started = dict.fromkeys(WORKERS, NOTED - timedelta(seconds=1))
    assert list(hanging(job(tmp_path), started)) == [Replica("worker", 2)]


def test_a_job_whose_chief_leaves_no_records_has_none_that_hang(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    note(tmp_path, "worker-0")
    silent = job(tmp_path).model_copy(update={"hangs": ""})
    assert hanging(silent, dict.fromkeys(WORKERS, NOTED - timedelta(seconds=1))) == {}
