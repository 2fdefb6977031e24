"""What a component's pod is; and the step's record decides, whatever becomes of the pod."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import V1ObjectMeta, V1Pod
from small_cluster import Pod, SmallCluster
from stub_api import StubApi, listed, pod

from contract.clients.cluster import Cluster
from contract.command import StepCommand
from contract.loader import freeze_pipeline
from contract.places import CODE_FOLDER
from contract.records.record import Result
from contract.schema.cluster import ClusterConfig, KubernetesConfig, PodConfig
from operators.component import PipelineRef
from operators.jobs import JobOperator
from operators.pod_component import ComponentPodOperator
from operators.task_identity import TaskIdentity
from operators.triggers import PodTrigger

RUN_ID = "run-1"


@pytest.fixture
def operator(api: StubApi, tmp_path: Path) -> ComponentPodOperator:
    return operator_on(api.cluster(), tmp_path)


def operator_on(cluster: ClusterConfig, root: Path) -> ComponentPodOperator:
    kubernetes = KubernetesConfig(
        clusters={"one": cluster},
        default_cluster="one",
        pod=PodConfig(image="slipway:1", python="/opt/python"),
    )
    return ComponentPodOperator(
        task_id="transform", pipeline=PipelineRef("digits", str(root)), kubernetes=kubernetes
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
        "attempt": 1,
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


def test_pods_install_their_pipelines_own_packages_first(
    operator: ComponentPodOperator, tmp_path: Path
) -> None:
    run = PipelineRef("digits", str(tmp_path)).run(RUN_ID)
    freeze_pipeline(CODE_FOLDER / "configs" / "pipelines" / "digits", run, {})
    (run.frozen_pipeline / "requirements.txt").write_text("shoelace")
    identity = TaskIdentity("digits", RUN_ID, "transform", generation=0, attempt=1)
    command = StepCommand("transform", "digits", RUN_ID, str(tmp_path))
    pod_of_step = operator.manifest(identity, command)["spec"]["containers"][0]["command"]
    job = JobOperator(
        task_id="train", pipeline=operator.pipeline, kubernetes=operator.kubernetes
    ).build(TaskIdentity("digits", RUN_ID, "train", generation=0, attempt=1), run)
    first = ["/opt/python", "-m", "contract.own_packages", str(run.frozen_pipeline), "--"]
    for made, step in ((pod_of_step, "transform"), (list(job.command), "train")):
        assert made[:8] == [*first, "/opt/python", "-m", f"components.{step}"]


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


POD = "digits-transform-1-g0"
EXACTLY = {"uid": f"uid-{POD}", "resourceVersion": "7"}
CONTAINER = {"name": "main", "image": "i:1", "imageID": "", "ready": False, "restartCount": 0}
CONTAINER |= {"state": {"terminated": {"exitCode": 1}}}
ENDED = {"phase": "Failed", "containerStatuses": [CONTAINER]}


def the_pod(attempt: int = 1, **metadata: Any) -> dict[str, Any]:
    annotations = {"slipway/attempt": str(attempt)}
    return pod(POD, status=ENDED, metadata={"annotations": annotations, **metadata})


def resume(operator: ComponentPodOperator) -> None:
    with pytest.raises(AirflowException, match="transform: exit code 1"):
        operator.trigger_reentry(context({}), event("failed", 1))


def test_a_judged_pod_is_deleted_exactly_as_it_was_looked_at(
    api: StubApi, operator: ComponentPodOperator
) -> None:
    api.say("GET", "pods", the_pod(), POD)
    resume(operator)
    (deletion,) = api.asked("DELETE")
    assert deletion.body["preconditions"] == EXACTLY


def test_a_pod_that_changed_is_looked_at_again_before_it_is_deleted(
    api: StubApi, operator: ComponentPodOperator
) -> None:
    api.say("GET", "pods", [the_pod(), the_pod(), the_pod(resourceVersion="8")], POD)
    api.say("DELETE", "pods", [{"kind": "Status", "code": 409, "message": "changed"}, {}], POD)
    resume(operator)
    versions = [r.body["preconditions"]["resourceVersion"] for r in api.asked("DELETE")]
    assert versions[-1] == "8"


@pytest.mark.parametrize("later", [{}, {"uid": "of another of this name"}])
def test_a_pod_of_a_later_attempt_is_left_alone_on_resuming(
    later: Any, api: StubApi, operator: ComponentPodOperator
) -> None:
    api.say("GET", "pods", [the_pod(), the_pod(attempt=2, **later)], POD)
    resume(operator)
    assert not api.asked("DELETE")


def trigger(api: StubApi) -> PodTrigger:
    kubernetes = KubernetesConfig(
        clusters={"one": api.cluster()}, default_cluster="one", pod=PodConfig(image="i:1")
    ).model_dump(mode="json", exclude_unset=True)
    given = {"pod": POD, "kubernetes": kubernetes, "cluster": "one", "labels": {}, "attempt": 1}
    return PodTrigger(**given, earlier=0, deadline=time.time() + 60)


def test_a_killed_triggers_pod_is_deleted_unless_it_was_adopted_meanwhile(api: StubApi) -> None:
    api.say("GET", "pods", the_pod(), POD)
    api.say("GET", "pods", listed(the_pod(attempt=2)))
    asyncio.run(trigger(api).on_kill())
    assert not api.asked("DELETE")
    api.say("GET", "pods", [listed(the_pod()), listed()])
    asyncio.run(trigger(api).on_kill())
    (deletion,) = api.asked("DELETE")
    assert deletion.body["preconditions"] == EXACTLY


def test_a_trigger_that_may_not_watch_says_which_right_is_missing(api: StubApi) -> None:
    said = (
        'pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace'
    )
    api.say("GET", "pods", {"kind": "Status", "code": 403, "message": f'{said} "team"'})

    async def event() -> dict[str, Any]:
        async for found in trigger(api).run():
            return dict(found.payload)
        raise AssertionError("no event")

    found = asyncio.run(asyncio.wait_for(event(), 60))
    assert found["exit_code"] == 2
    assert "The right to list pods in namespace 'team' is missing" in found["complaints"]


def test_a_pod_that_a_queue_holds_back_is_waited_for_beyond_the_time_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(later=0.0, time=time.time)
    clock.monotonic = lambda: time.monotonic() + clock.later
    monkeypatch.setattr("operators.triggers.time", clock)
    gates = [{"name": "kueue.x-k8s.io/admission"}]
    said: list[str] = []

    async def gate(cluster: SmallCluster, made: Pod) -> None:
        cluster.change("pods", made, spec={**made["spec"], "schedulingGates": gates})
        for number in range(2):  # the second is said by a look at the later clock
            gated = {**made["spec"], "schedulingGates": [{"name": f"gate-{number}"}]}
            cluster.change("pods", made, spec=gated)
            while not any(f"gate-{number}" in text for text in said):
                await asyncio.sleep(0.02)
            clock.later += 10_000.0
        cluster.run(made)
        cluster.end(made)

    async def event(cluster: SmallCluster) -> dict[str, Any]:
        kubernetes = KubernetesConfig(
            clusters={"one": cluster.settings()}, default_cluster="one", pod=PodConfig(image="i:1")
        ).model_dump(mode="json", exclude_unset=True)
        given = {"pod": POD, "kubernetes": kubernetes, "cluster": "one", "labels": {}, "attempt": 1}
        waiting = PodTrigger(**given, earlier=0, deadline=time.time() + 100)
        monkeypatch.setattr(waiting, "say", lambda _, text: said.append(text))
        async with Cluster(cluster.settings()) as api:
            await api.create("pods", {**the_pod(), "status": {"phase": "Pending"}})
        async for found in waiting.run():
            return dict(found.payload)
        raise AssertionError("no event")

    with SmallCluster(tmp_path, gate) as cluster:
        found = asyncio.run(event(cluster))
    assert (found["exit_code"], found["status"]) == (0, "success")


@pytest.mark.parametrize(
    ("changes", "answer", "message"),
    [
        ({"context": "onn"}, {}, "context 'onn': not in .*; did you mean 'one'"),
        ({}, {"code": 401, "message": "Unauthorized"}, r"access denied \(401\)"),
        ({}, {"code": 403, "message": "pods is forbidden"}, "Give the service account the verbs"),
        ({}, {"code": 404, "message": 'namespaces "x" not found'}, 'namespaces "x" not found'),
    ],
)
def test_a_wrong_cluster_fails_for_good_and_names_the_fix(
    changes: Any, answer: Any, message: str, api: StubApi, tmp_path: Path
) -> None:
    api.say("GET", "pods", {"kind": "Status", **answer})
    operator = operator_on(api.cluster(**changes), tmp_path)
    operator._labels = {"slipway/task": "x"}
    request = V1Pod(metadata=V1ObjectMeta(name=POD, labels={"slipway/generation": "0"}))
    with pytest.raises(AirflowFailException, match=message):
        operator.get_or_create_pod(request, {})
