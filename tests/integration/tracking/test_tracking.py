"""One parent run, one child per step, in a real MLflow; retries continue the same child."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from components.optimize.ledger import as_figure, log_ledger
from components.optimize.runtimes.figures import log_trials
from components.tracking import open_tracker, point_champion
from contract.layout import RunLayout
from contract.records.evaluation import Metric
from contract.records.optimization import LedgerRow, RuntimeMeasurement, ServedRuntime


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    _await_health(address, server)
    yield address
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _await_health(address: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
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


def test_what_the_optimiser_did_is_there_as_tables_and_pictures(uri: str, tmp_path: Path) -> None:
    difference = Metric(value=-0.01, low=-0.02, high=0.0)
    rows = [
        LedgerRow(name="original", is_kept=True, operations=9, size_bytes=2048),
        LedgerRow(name="quantize_weights", is_kept=True, metric_difference=difference),
    ]
    trial = RuntimeMeasurement(name="litert", is_eligible=True, cpu_ms_batch_1=1.0)
    with open_tracker(uri, RunLayout(tmp_path, "optimized", "r1"), "optimize") as tracker:
        log_ledger(rows, [("ledger.png", as_figure(rows))], tracker)
        log_trials(ServedRuntime(name="litert", measured=(trial,)), tracker)
    client = MlflowClient(uri)
    names = {file.path for file in client.list_artifacts(tracker.run_id)}
    assert {"ledger.json", "ledger.png", "runtimes.json", "runtimes.png"} <= names
    place = client.download_artifacts(tracker.run_id, "ledger.json", str(tmp_path))
    table = json.loads(Path(place).read_text())
    by_column = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert by_column["name"] == ("original", "quantize_weights")
    assert by_column["metric_difference"] == ("", "-0.0100 (-0.0200 to +0.0000)")
    picture = client.download_artifacts(tracker.run_id, "runtimes.png", str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_an_alias_moves_to_the_registered_version(uri: str, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    with open_tracker(uri, RunLayout(tmp_path, "houses", "r1"), "promote") as tracker:
        tracker.register_model("houses", tmp_path, 7, "champion")
        tracker.register_model("houses", tmp_path, 8, "challenger")

    client = MlflowClient(uri)
    assert point_champion(uri, "houses", 7)
    assert "challenger" in client.get_registered_model("houses").aliases
    assert not point_champion(uri, "houses", 99)
    assert client.get_model_version_by_alias("houses", "champion").tags["slipway.version"] == "7"
    assert point_champion(uri, "houses", 8)
    champion = client.get_model_version_by_alias("houses", "champion")
    assert champion.tags["slipway.version"] == "8"
    assert "challenger" not in client.get_registered_model("houses").aliases


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
