"""One parent run, one child per step, in a real MLflow; retries continue the same child."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from components.optimize.report.engine_tables import log_trials
from components.optimize.report.ledger import as_figure, log_ledger
from components.runs.tracking import Tracker, open_tracker, point_champion, tell_untracked
from contract.clients.http import open_client
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord, Metric
from contract.records.optimization import EngineMeasurement, LedgerRow, ServedEngine
from contract.records.package import (
    InputSpec,
    LoadReport,
    PackageManifest,
    PackageRecord,
    Provenance,
)
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.staging.scratch import SCRATCH, scratch_of
from contract.stores import store_of
from contract.tracked_run import parent_run_id
from operators.tracked_run import end_tracked_run


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    ours = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # as `slipway up` does
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=ours, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    _await_health(address, server)
    yield address
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _await_health(address: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None
        try:
            with open_client(address, 1.0) as http:
                http.get("/health").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("MLflow did not become healthy")


def test_a_retry_continues_the_same_child(uri: str, tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "digits", "r1")
    with (
        pytest.raises(RuntimeError, match="first attempt"),
        open_tracker(uri, run, "train") as tracker,
    ):
        tracker.log_metrics({"loss": 2.0}, step=1)
        raise RuntimeError("first attempt")
    with open_tracker(uri, run, "train") as tracker:
        tracker.log_params({"train.steps": 5})
        tracker.log_metrics({"loss": 1.0}, step=2)
    with open_tracker(uri, run, "evaluate") as other:
        pass

    client = MlflowClient(uri)
    child = client.get_run(tracker.run_id)
    losses = [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "loss")]
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert losses == [(1, 2.0), (2, 1.0)]
    assert child.info.status == "FINISHED"
    assert child.data.params == {"train.steps": "5"}
    assert len(runs) == 3  # the parent and two children
    parents = {r.data.tags.get("mlflow.parentRunId") for r in runs} - {None}
    assert len(parents) == 1
    assert other.run_id != tracker.run_id


def test_figures_of_a_killed_attempt_are_not_doubled(uri: str, tmp_path: Path) -> None:
    """It is killed before its result is there, and its successor after that."""
    run = RunLayout(tmp_path, "digits", "r-killed")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from components.runs.tracking import open_tracker\n"
        "from contract.layout import RunLayout\n"
        "run = RunLayout(Path(sys.argv[2]), 'digits', 'r-killed')\n"
        "with open_tracker(sys.argv[1], run, 'validate') as tracker:\n"
        "    tracker.log_metrics({'drift/x': 0.5})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, uri, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    result = Result(
        step="validate",
        pipeline="digits",
        run_id="r-killed",
        attempt=2,
        started_at=datetime.now(UTC),
        seconds=3.0,
        inputs={},
        metrics={"rows": 7.0},
    )
    with open_tracker(uri, run, "validate") as tracker:
        tracker.log_metrics({"drift/x": 0.5})
        tracker.log_result(result)
    tell_untracked(uri, run, result)  # the mark that it was told is not there
    assert (run.tracking_notes / "validate.told").read_text() == "2"
    client = MlflowClient(uri)
    for name in ("drift/x", "rows", "seconds"):
        assert len(client.get_metric_history(tracker.run_id, name)) == 1, name


def test_runs_are_continued_on_another_machine_and_made_again_where_mlflow_lost_them(
    uri: str, tmp_path: Path
) -> None:
    machines = [scratch_of("memory://models", {SCRATCH: str(tmp_path / name)}) for name in "ab"]
    here, there = (RunLayout(root, "digits", "r-moved") for root in machines)
    with open_tracker(uri, here, "train") as first:
        pass
    with open_tracker(uri, there, "train") as second:
        pass
    assert second.run_id == first.run_id
    for step in ("run", "train"):
        store_of(there.tracking_notes).write(step, "0" * 32)
    with open_tracker(uri, here, "train") as third:
        third.log_metrics({"loss": 0.5})
    client = MlflowClient(uri)
    assert third.run_id not in ("0" * 32, first.run_id)
    assert client.get_run(third.run_id).data.metrics["loss"] == 0.5
    assert store_of(there.tracking_notes).read("train") == third.run_id
    assert client.get_run(parent_run_id(there)).data.tags["slipway.step"] == "run"


def test_what_the_optimiser_did_is_there_as_tables_and_pictures(uri: str, tmp_path: Path) -> None:
    difference = Metric(value=-0.01, low=-0.02, high=0.0)
    rows = [
        LedgerRow(name="original", is_kept=True, operations=9, size_bytes=2048),
        LedgerRow(name="quantize_weights", is_kept=True, metric_difference=difference),
    ]
    trial = EngineMeasurement(name="litert", is_eligible=True, cpu_ms_batch_1=1.0)
    with open_tracker(uri, RunLayout(tmp_path, "optimized", "r1"), "optimize") as tracker:
        log_ledger(rows, [("ledger.png", as_figure(rows))], tracker)
        log_trials(ServedEngine(name="litert", measured=(trial,)), tracker)
    client = MlflowClient(uri)
    names = {file.path for file in client.list_artifacts(tracker.run_id)}
    assert {"ledger.json", "ledger.png", "engines.json", "engines.png"} <= names
    place = client.download_artifacts(tracker.run_id, "ledger.json", str(tmp_path))
    table = json.loads(Path(place).read_text())
    by_column = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert by_column["name"] == ("original", "quantize_weights")
    assert by_column["metric_difference"] == ("", "-0.0100 (-0.0200 to +0.0000)")
    picture = client.download_artifacts(tracker.run_id, "engines.png", str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def make_package(folder: Path, version: int) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_text("w")
    PackageManifest(
        pipeline="houses",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="sha256:0",
        inputs={"rooms": InputSpec(dtype="float32")},
        heads={"price": HeadConfig(task="regression")},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r1", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")
    return folder


def test_an_alias_moves_to_the_registered_version(uri: str, tmp_path: Path) -> None:
    with open_tracker(uri, RunLayout(tmp_path, "houses", "r1"), "promote") as tracker:
        for version, alias in {7: "champion", 8: "challenger"}.items():
            package = make_package(tmp_path / str(version), version)
            tracker.register_model("houses", package, version, alias)

    client = MlflowClient(uri)
    assert point_champion(uri, "houses", 7)
    assert "challenger" in client.get_registered_model("houses").aliases
    assert not point_champion(uri, "houses", 99)
    assert client.get_model_version_by_alias("houses", "champion").tags["slipway.version"] == "7"
    assert point_champion(uri, "houses", 8)
    champion = client.get_model_version_by_alias("houses", "champion")
    assert champion.tags["slipway.version"] == "8"
    assert "challenger" not in client.get_registered_model("houses").aliases


def leave(tracker: Tracker, run: RunLayout, step: str, record: Record) -> None:
    tracker.log_result(
        Result(
            step=step,
            pipeline=run.pipeline,
            run_id=run.run_id,
            attempt=1,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=2.0,
            inputs={},
            detail=record.model_dump(mode="json"),
        )
    )


BLESSED = BlessRecord(
    is_blessed=True,
    candidate="c",
    step=5,
    champion_version=1,
    metrics={"price": {"mean_absolute_error": Metric(value=0.5, low=0.4, high=0.6)}},
    reasons=("price/mean_absolute_error is not worse",),
)
LOAD = LoadReport(
    requests=9, errors=0, seconds=1, requests_per_second=9.0, p50_ms=1, p95_ms=2, p99_ms=3.0
)
PROMOTED = DeployRecord(
    stage="promote", outcome="promoted", version=2, reasons=("version 2 has all traffic",)
)


def parent_of(uri: str, name: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parent


def test_the_parent_ends_with_the_outcome_and_has_what_runs_are_compared_by(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_AIRFLOW_URL", "http://airflow")
    monkeypatch.setenv("SLIPWAY_DATA_PLANE_URL", "http://plane/")
    run = RunLayout(tmp_path, "flats", "manual__2026-01-01T00:00:00+00:00")
    with open_tracker(uri, run, "train") as tracker:
        tracker.log_params({"learning_rate": 0.1})
    with open_tracker(uri, run, "bless") as tracker:
        leave(tracker, run, "bless", BLESSED)
    assert parent_of(uri, "flats").info.status == "RUNNING"
    with open_tracker(uri, run, "package") as tracker:
        leave(tracker, run, "package", PackageRecord(version=2, digest="d", load=LOAD, max_skew=0))
    assert parent_of(uri, "flats").info.status == "FINISHED"
    assert parent_of(uri, "flats").data.tags["slipway.outcome"] == "packaged"
    with open_tracker(uri, run, "promote") as tracker:
        assert parent_of(uri, "flats").info.status == "RUNNING"
        leave(tracker, run, "promote", PROMOTED)

    parent = parent_of(uri, "flats")
    figures, tags = parent.data.metrics, parent.data.tags
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"learning_rate": "0.1"}
    assert figures["price/mean_absolute_error"] == 0.5
    assert (figures["price/mean_absolute_error_low"], figures["p99_ms"]) == (0.4, 3.0)
    assert (tags["slipway.outcome"], tags["slipway.version"]) == ("promoted", "2")
    assert tags["slipway.compared_with_version"] == "1"
    page = "http://airflow/dags/flats/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    served = "http://plane/v1/models/flats/versions/2"
    assert (tags["slipway.airflow_run"], tags["slipway.served_at"]) == (page, served)
    assert tags["mlflow.note.content"] == (
        f"**promoted**\n\n- version 2 has all traffic\n\n[Run in Airflow]({page})\n\n"
        f"[Served model]({served})"
    )
    experiment = MlflowClient(uri).get_experiment_by_name("flats")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.parametrize(
    ("step", "record", "outcome"),
    [
        ("bless", BLESSED.model_copy(update={"is_blessed": False}), "not blessed"),
        (
            "canary",
            DeployRecord(stage="canary", outcome="rolled_back", version=2, reasons=("slow",)),
            "rolled back",
        ),
    ],
)
def test_the_parent_of_a_run_that_was_turned_away_says_so(
    uri: str, tmp_path: Path, step: str, record: Record, outcome: str
) -> None:
    run = RunLayout(tmp_path, f"turned_{step}", "local-1")
    with open_tracker(uri, run, step) as tracker:
        leave(tracker, run, step, record)
    parent = parent_of(uri, run.pipeline)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["slipway.outcome"] == outcome
    assert parent.data.tags["slipway.reasons"]
    assert "slipway.airflow_run" not in parent.data.tags


def test_the_parent_of_a_failed_step_has_failed_until_a_retry(uri: str, tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "failing", "r1")
    with pytest.raises(RuntimeError, match="no"), open_tracker(uri, run, "train"):
        raise RuntimeError("no luck")
    parent = parent_of(uri, "failing")
    assert (parent.info.status, parent.data.tags["slipway.reasons"]) == ("FAILED", "no luck")
    assert parent.data.tags["slipway.outcome"] == "failed in 'train'"
    with open_tracker(uri, run, "train"):
        assert parent_of(uri, "failing").data.tags["slipway.outcome"] == "running"


def test_the_parent_of_a_killed_step_is_ended_from_outside(uri: str, tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "killed", "r1")
    code = (
        "import os, sys, pathlib; from contract.layout import RunLayout; "
        "from components.runs.tracking import open_tracker; "
        "run = RunLayout(pathlib.Path(sys.argv[2]), 'killed', 'r1'); "
        "opened = open_tracker(sys.argv[1], run, 'train'); opened.__enter__(); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, uri, str(tmp_path)], check=False)
    assert parent_of(uri, "killed").info.status == "RUNNING"
    end_tracked_run(run, "failed in 'train'", "exit code -9", {"MLFLOW_TRACKING_URI": uri})
    parent = parent_of(uri, "killed")
    assert (parent.info.status, parent.info.end_time is not None) == ("FAILED", True)
    assert parent.data.tags["slipway.outcome"] == "failed in 'train'"
    assert parent.data.tags["slipway.reasons"] == "exit code -9"


def test_a_step_goes_on_without_mlflow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = RunLayout(tmp_path, "digits", "r1")
    with open_tracker("http://127.0.0.1:9", run, "train") as tracker:
        tracker.log_metrics({"loss": 1.0})
        tracker.log_params({"a": 1})

    assert tracker.run_id == ""
    assert "this step is not tracked" in caplog.text
