"""What a component's pod is; and the step's record decides, whatever becomes of the pod."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contract.command import StepCommand
from contract.records.record import Result
from contract.schema.cluster import ClusterConfig, KubernetesConfig, PodConfig
from operators.component import PipelineRef
from operators.pod_component import ComponentPodOperator
from operators.task_identity import TaskIdentity

RUN_ID = "run-1"


class EmptyCluster(BaseHTTPRequestHandler):
    """An API server that has nothing: every pod has vanished."""

    def do_GET(self) -> None:
        body = json.dumps({"kind": "Status", "code": 404, "message": "not found"}).encode()
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The way to an API server that answers 404 to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyCluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": url}}],
        "users": [{"name": "one", "user": {"token": "x"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }
    path = tmp_path_factory.mktemp("kubeconfig") / "config"
    path.write_text(yaml.safe_dump(config))
    yield path
    server.shutdown()


@pytest.fixture
def operator(kubeconfig: Path, tmp_path: Path) -> ComponentPodOperator:
    cluster = ClusterConfig(context="one", kubeconfig=str(kubeconfig), namespace="team")
    kubernetes = KubernetesConfig(
        clusters={"one": cluster},
        default_cluster="one",
        pod=PodConfig(image="slipway:1", python="/opt/python"),
    )
    return ComponentPodOperator(
        task_id="transform", pipeline=PipelineRef("digits", str(tmp_path)), kubernetes=kubernetes
    )


def context(pushed: dict[str, Any]) -> dict[str, Any]:
    task = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    return {"run_id": RUN_ID, "dag_run": SimpleNamespace(conf={}), "ti": task}


def leave_result(root: Path, attempt: int) -> None:
    run = PipelineRef("digits", str(root)).run(RUN_ID)
    attempts = run.attempts("transform")
    attempts.mkdir(parents=True)
    (attempts / str(attempt)).touch()
    Result(
        step="transform",
        pipeline="digits",
        run_id=RUN_ID,
        attempt=attempt,
        started_at=datetime.now(UTC),
        seconds=2.0,
        inputs={},
        metrics={"rows": 3.0},
    ).write(run.result("transform"))


def event(status: str, exit_code: int | None, earlier: int = 0) -> dict[str, Any]:
    return {
        "status": status,
        "name": "digits-transform-1-g0",
        "namespace": "team",
        "message": "",
        "exit_code": exit_code,
        "complaints": "last words",
        "earlier": earlier,
    }


def test_the_pod_runs_the_steps_command_and_carries_its_task_and_attempt(
    operator: ComponentPodOperator, tmp_path: Path
) -> None:
    identity = TaskIdentity("digits", RUN_ID, "transform", generation=2, attempt=5)
    command = StepCommand("transform", "digits", RUN_ID, str(tmp_path))
    made = operator.manifest(identity, command)
    assert made["metadata"]["name"] == identity.job_name
    assert identity.job_name.startswith("digits-transform-")
    assert identity.job_name.endswith("-g2")
    assert made["metadata"]["annotations"] == {"slipway/attempt": "5"}
    labels = made["metadata"]["labels"]
    assert (labels["dag_id"], labels["run_id"], labels["task_id"]) == (
        "digits",
        RUN_ID,
        "transform",
    )
    assert labels["slipway/generation"] == "2"
    assert made["spec"]["containers"][0]["command"] == [
        *("/opt/python", "-m", "components.transform"),
        *("--pipeline", "digits", "--run-id", RUN_ID, "--root", str(tmp_path)),
    ]


def test_clearing_starts_a_generation_and_a_retry_does_not() -> None:
    def identity(try_number: int, max_tries: int) -> TaskIdentity:
        task = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", try_number=try_number, max_tries=max_tries
        )
        return TaskIdentity.of({"ti": task}, retries=2)

    assert identity(1, 2).job_name == identity(2, 2).job_name
    cleared = identity(3, 4)  # Airflow: max_tries = try_number + retries
    assert (cleared.generation, cleared.attempt) == (2, 3)
    assert cleared.job_name != identity(2, 2).job_name
    assert cleared.labels == identity(2, 2).labels


@pytest.mark.parametrize("status", ["success", "failed", "timeout"])
def test_a_vanished_pod_without_a_record_is_a_failure_whatever_the_provider_says(
    status: str, operator: ComponentPodOperator
) -> None:
    """apache/airflow#73117: the provider calls a pod that is gone after its success a success."""
    with pytest.raises(AirflowException, match="transform"):
        operator.trigger_reentry(context({}), event(status, 0 if status == "success" else None))


def test_a_vanished_pod_that_left_its_record_is_a_success(
    operator: ComponentPodOperator, tmp_path: Path
) -> None:
    leave_result(tmp_path, attempt=1)
    pushed: dict[str, Any] = {}
    operator.trigger_reentry(context(pushed), event("failed", None))
    assert pushed["summary"]["metrics"] == {"rows": 3.0}


def test_an_earlier_attempts_record_does_not_excuse_a_vanished_pod(
    operator: ComponentPodOperator, tmp_path: Path
) -> None:
    leave_result(tmp_path, attempt=1)
    with pytest.raises(AirflowException, match="transform: vanished:\nlast words"):
        operator.trigger_reentry(context({}), event("failed", None, earlier=1))


def test_exit_code_2_fails_for_good(operator: ComponentPodOperator) -> None:
    with pytest.raises(AirflowFailException, match="exit code 2:\nlast words"):
        operator.trigger_reentry(context({}), event("failed", 2))
