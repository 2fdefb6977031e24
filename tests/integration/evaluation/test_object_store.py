"""The queue in an object store: a real S3-speaking server on this machine, and conditional writes.

The server answers one request after the other, so that its own check and write are one.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.evaluate.queue import Holder, Queue, Terms
from components.evaluate.worker import Duties, Patience, Worker
from components.quality.verdicts import read_verdicts
from contract.errors import ConflictError, StorageError
from contract.layout import RunLayout
from contract.records.evaluation import Verdict
from contract.records.record import Result
from contract.records.training import CheckpointManifest, TrainingEnded
from contract.staging.bucket import Bucket
from contract.staging.root import open_root
from contract.staging.scratch import SCRATCH, scratch_of
from contract.staging.stored_run import StoredRun
from contract.storage import Attempt
from contract.stores import ObjectStore

STEPS = 8


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, object]]:
    """Options of fsspec's S3 file system that lead to a fresh server with one bucket."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    import s3fs
    from werkzeug.serving import make_server

    application = server_module.DomainDispatcherApplication(server_module.create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    options = {
        "key": "name",
        "secret": "secret",
        "endpoint_url": f"http://127.0.0.1:{server.server_port}",
        "skip_instance_cache": True,
    }
    s3fs.S3FileSystem(**options).mkdir("bucket")
    yield options
    server.shutdown()
    thread.join()


def test_one_of_many_writers_creates_and_its_content_stays(options):
    stores = [ObjectStore("s3://bucket/race", **options) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(5):
            key = f"leases/{number}"
            won = list(pool.map(lambda i, key=key: stores[i].create(key, f"writer {i}"), range(4)))
            assert won.count(True) == 1
            assert stores[0].read(key) == f"writer {won.index(True)}"
    assert stores[0].names("leases") == {"0", "1", "2", "3", "4"}


def test_what_is_not_there_is_none_and_what_is_overwritten_is_new(options):
    store = ObjectStore("s3://bucket/plain", **options)
    assert store.read("nothing") is None
    assert store.names("nowhere") == frozenset()
    store.write("holders/0.1", "1")
    store.write("holders/0.1", "2")
    assert store.read("holders/0.1") == "2"
    assert abs(store.written_at("holders/0.1") - datetime.now(UTC).timestamp()) < 60


def test_a_write_whose_answer_was_lost_still_counts_as_ours(options):
    """A client that tries again after a lost answer is refused by its own first write."""
    store = ObjectStore("s3://bucket/lost", **options)
    assert store.create("leases/1", "0.1")
    assert store.create("leases/1", "0.1")
    assert not store.create("leases/1", "1.1")


def test_a_store_that_is_not_there_is_a_storage_error(options):
    store = ObjectStore("s3://nobucket/x", **options)
    with pytest.raises(StorageError, match=r"nobucket/x/leases/1: cannot create"):
        store.create("leases/1", "0.1")


def test_two_evaluators_share_a_queue_in_the_object_store(options, tmp_path: Path):
    run = RunLayout(tmp_path, "s3", "run")
    now = datetime.now(UTC)
    for step in range(1, STEPS + 1):
        run.checkpoint(step).mkdir(parents=True)
        manifest = CheckpointManifest(step=step, files={}, written_at=now)
        manifest.write(run.checkpoint_manifest(step))
    TrainingEnded(has_succeeded=True, last_step=STEPS, reason="", ended_at=now).write(
        run.training_ended
    )
    announced: list[int] = []

    def judge(step: int) -> Verdict:
        return Verdict(step=step, examples=1, metrics={}, judged_at=now, lag_seconds=0.0)

    def announce(verdict: Verdict) -> None:
        announced.append(verdict.step)
        verdict.write(run.verdict(verdict.step))

    def work(replica: int) -> None:
        store = ObjectStore("s3://bucket/queue", **options)
        queue = Queue(run, store, Terms(Holder(replica, 1), lease_seconds=30))
        queue.beat()
        duties = Duties(judge, announce if replica == 0 else None, check=lambda: None)
        Worker(queue, duties, Patience(poll_seconds=0.05, timeout_seconds=60)).work_off()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    verdicts = read_verdicts(run)
    assert sorted(announced) == [verdict.step for verdict in verdicts] == list(range(1, STEPS + 1))
    assert {verdict.judged_by for verdict in verdicts} <= {"0.1", "1.1"}


def test_verdicts_in_the_object_store_come_below_the_root_too(options, make_run, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(options["endpoint_url"]))
    made = make_run(overrides={"evaluate.queue_uri": "s3://bucket/evaluations"})
    made.publish(1, (9.0, 0.0))
    made.publish(2, (-9.0, 0.0))
    made.end()
    assert made.evaluate()[0].steps == (1, 2)
    store = ObjectStore(f"s3://bucket/evaluations/tiny/{made.run.run_id}", **options)
    for verdict in read_verdicts(made.run):
        name = f"verdicts/{verdict.step:09d}.json"
        assert Verdict.model_validate_json(store.read(name) or "", strict=False) == verdict
    assert not (made.run.evaluation_queue / "leases").exists()


def test_a_root_in_the_object_store_is_fenced_and_staged(options, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(options["endpoint_url"]))
    machines = [scratch_of("s3://bucket/root", {SCRATCH: str(tmp_path / name)}) for name in "ab"]
    runs = [RunLayout(machine, "s3", "run") for machine in machines]
    roots = [open_root(str(machine)) for machine in machines]
    first = Attempt.claim(runs[0].attempts("ingest"))
    (runs[0].step("ingest") / "empty").mkdir(parents=True)
    (runs[0].step("ingest") / "rows").write_text("1,2")
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    known = {"step": "ingest", "pipeline": "s3", "run_id": "run", "inputs": {}, "seconds": 1.0}
    result = Result(attempt=1, started_at=moment, **known)
    roots[0].publish(runs[0], result, first)

    roots[1].fetch(runs[1])
    assert Result.read(runs[1].result("ingest")) == result
    StoredRun(runs[1], Bucket("s3://bucket/root/s3")).stage_in("ingest")
    assert (runs[1].step("ingest") / "rows").read_text() == "1,2"
    assert (runs[1].step("ingest") / "empty").is_dir()
    second = Attempt.claim(runs[1].attempts("ingest"))
    assert second.number == 2
    with pytest.raises(ConflictError, match="overtaken by attempt 2"):
        roots[0].publish(runs[0], result, first)
    roots[0].fetch(runs[0])
    assert not runs[0].result("ingest").exists()
