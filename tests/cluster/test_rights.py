"""The rights in docker/kubernetes are enough for all that their accounts do, and not more."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import kubernetes
import kubernetes_asyncio
import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from clusters import PYTHON, TestCluster, host_pods, kustomized, wait_for

from contract.clients.cluster import Cluster
from contract.command import StepCommand
from contract.errors import ConfigError
from contract.records.record import Result
from contract.schema.cluster import ClusterConfig, JobConfig, KubernetesConfig
from contract.schema.training import TrainConfig
from launching.cluster.claim import Claim
from launching.cluster.kinds import RESOURCES, open_job
from launching.cluster.kubeflow import kubeflow_job
from launching.cluster.manifests import TASK, headless_service
from launching.cluster.preflight import ClusterReport, cluster_reports
from launching.cluster.queueing import remove_workload
from launching.cluster.reaper import reap
from launching.cluster.storage_check import claim_problems
from launching.job_spec import JobSpec
from launching.restarts import JobEnd
from operators.component import PipelineRef
from operators.pod_component import ComponentPodOperator
from operators.run_request import RunRequest
from operators.triggers import PodTrigger

ACCOUNT_KINDS = ("ServiceAccount", "Role", "RoleBinding")
CLUSTER_KINDS = ("ClusterRole", "ClusterRoleBinding")

Right = tuple[str, str]  # a verb, and a resource with its group


@pytest.fixture(scope="module")
def accounts(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], ClusterConfig]]:
    """The cluster `train` as a service account of docker/kubernetes sees it."""
    cluster = clusters["train"]
    folder = tmp_path_factory.mktemp("accounts")

    def seen_by(account: str) -> ClusterConfig:
        config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
        context = next(c for c in config["contexts"] if c["name"] == cluster.context)
        context["context"]["user"] = account
        config["users"] = [{"name": account, "user": {"token": _token(cluster, account)}}]
        path = folder / account
        path.write_text(yaml.safe_dump(config))
        return cluster.settings.model_copy(update={"kubeconfig": str(path)})

    with installed(cluster):
        yield seen_by


@contextlib.contextmanager
def installed(cluster: TestCluster) -> Iterator[None]:
    """Apply accounts and rights for this test's namespace; what is the whole cluster's goes."""
    for body in [*kustomized("base"), *kustomized("serving")]:
        for subject in body.get("subjects", ()):
            subject["namespace"] = cluster.namespace
        if body["kind"] in ACCOUNT_KINDS:
            body["metadata"]["namespace"] = cluster.namespace
            cluster.apply(body)
        if body["kind"] in CLUSTER_KINDS:
            body["metadata"]["name"] += f"-{cluster.namespace}"
            if body["kind"] == "ClusterRoleBinding":
                body["roleRef"]["name"] += f"-{cluster.namespace}"
            cluster.apply(body)
    yield
    for kind in CLUSTER_KINDS:
        cluster.kubectl("delete", kind, f"slipway-launcher-{cluster.namespace}")


def _token(cluster: TestCluster, account: str) -> str:
    """Return the account's token: asked for, or (before 1.24) out of its secret."""
    asked = cluster.kubectl("create", "token", account, is_checked=False).strip()
    if asked:
        return asked

    def secrets() -> list[dict[str, str]]:
        found = cluster.kubectl("get", "serviceaccount", account, "-o", "json")
        return list(json.loads(found).get("secrets", []))

    (secret,) = wait_for(secrets, 120)
    body = json.loads(cluster.kubectl("get", "secret", secret["name"], "-o", "json"))
    return base64.b64decode(body["data"]["token"]).decode()


# --- what is asked of the API server, and what is granted ---


@contextlib.contextmanager
def recorded() -> Iterator[set[Right]]:
    """Note what this process asks of API servers, below both clients."""
    used: set[Right] = set()

    def noting(request: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: Any, method: str, url: str, query_params: Any = None, **given: Any) -> Any:
            used.update(_right(method, url, dict(query_params or ())))
            return request(self, method, url, query_params=query_params, **given)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for library in (kubernetes, kubernetes_asyncio):
            rest = library.client.rest.RESTClientObject
            patch.setattr(rest, "request", noting(rest.request))
        yield used


def _right(method: str, url: str, query: dict[str, Any]) -> set[Right]:
    api, *parts = urlparse(url).path.strip("/").split("/")
    group, rest = ([], parts[1:]) if api == "api" else (parts[:1], parts[2:])
    if rest[:1] == ["namespaces"]:
        rest = rest[2:]
    if not rest or group == ["authorization.k8s.io"]:
        return set()  # which kinds there are, and what one may do: everybody may ask
    verbs = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
    reading = "watch" if query.get("watch") else "get" if len(rest) > 1 else "list"
    return {(verbs.get(method, reading), "/".join([*group, rest[0], *rest[2:]]))}


def granted(account: str) -> set[Right]:
    return {
        (verb, "/".join(filter(None, (group, resource))))
        for body in [*kustomized("base"), *kustomized("serving")]
        if body["kind"] in ("Role", "ClusterRole") and body["metadata"]["name"] == account
        for rule in body["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


# --- all that Airflow's processes do with a cluster ---

RUN_ID = "run-1"


@dataclass(frozen=True)
class Sleep(StepCommand):
    """A command of ours in the component's place."""

    def arguments(self, *_: Any) -> list[str]:
        return [PYTHON, "-c", "import time; time.sleep(600)"]


class SleepingOperator(ComponentPodOperator):
    def command(self, run_id: str, request: RunRequest) -> StepCommand:
        return Sleep(**vars(super().command(run_id, request)))


@dataclass
class Walk:
    """What was done as slipway-launcher, and what came of it."""

    kubernetes: KubernetesConfig
    cluster: TestCluster
    pipeline: PipelineRef
    used: set[Right]
    report: ClusterReport
    ends: dict[str, JobEnd]
    event: dict[str, Any]

    def resume(self) -> Any:
        return _operator(self.kubernetes, self.pipeline).trigger_reentry(_context(2), self.event)


@pytest.fixture(scope="module")
def walk(
    accounts: Callable[[str], ClusterConfig],
    clusters: dict[str, TestCluster],
    kubeflow: TestCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Walk:
    folder, launcher = tmp_path_factory.mktemp("walk"), accounts("slipway-launcher")
    alone = {"train": clusters["train"]}
    kubernetes = host_pods(alone, folder, clusters={"train": launcher})
    pipeline = PipelineRef("digits", str(folder))
    with recorded() as used:
        report = asyncio.run(cluster_reports(kubernetes, TrainConfig()))["train"]
        assert asyncio.run(_claims(launcher)) == ("not in namespace", [])
        ends = asyncio.run(_all_jobs(launcher, kubernetes))
        _deferred(kubernetes, pipeline, attempt=1)
        trigger = _deferred(kubernetes, pipeline, attempt=2)
        event = asyncio.run(_deleted_under(trigger, clusters["train"]))
        killed = _deferred(kubernetes, pipeline, attempt=3)
        assert killed.pod in clusters["train"].pods()
        asyncio.run(killed.on_kill())
        wait_for(lambda: killed.pod not in clusters["train"].pods(), 180, "removal on kill")
    return Walk(kubernetes, clusters["train"], pipeline, used, report, ends, event)


async def _claims(launcher: ClusterConfig) -> tuple[str, list[str]]:
    """Look at a claim that is not there; return the words of the problem, and warnings."""
    async with Cluster(launcher) as cluster:
        (problem,), warnings = await claim_problems(cluster, ["missing"])
    words = "not in namespace"
    return (words if words in problem else problem), warnings


async def _all_jobs(launcher: ClusterConfig, kubernetes: KubernetesConfig) -> dict[str, JobEnd]:
    pod = kubernetes.pod.model_copy(update={"gpus": 8})
    too_much = kubernetes.model_copy(update={"pod": pod})
    async with Cluster(launcher) as cluster:
        await reap(cluster, 3600)
        await remove_workload(cluster, "rights-pods-0")  # there is none: no Kueue
        waits = [_adopted(cluster, kind, kubernetes) for kind in RESOURCES]
        ends = await asyncio.gather(*waits, _adopted(cluster, "pods", too_much, "too-much"))
    return dict(zip([*RESOURCES, "too-much"], ends, strict=True))


async def _adopted(
    cluster: Cluster, kind: Any, kubernetes: KubernetesConfig, name: str = ""
) -> JobEnd:
    """Drive a job that an earlier attempt made, and left."""
    is_mpi, deadline = kind == "mpijob", 180 if kind == "pods" else 4
    one = JobSpec(
        name=name or f"rights-{kind}",
        step="train",
        command=(PYTHON, "-c", "print('done')"),
        replicas={"worker": 1} if is_mpi else {"chief": 1, "worker": 1},
        labels={TASK: name or f"rights-{kind}"},
        is_mpi=is_mpi,
        settings=JobConfig(kind=kind, grace_seconds=0, start_deadline_seconds=deadline),
    )
    earlier, later = (Claim(cluster, RESOURCES[kind], one.labels, 0, n) for n in (1, 2))
    pods = kind == "pods"
    await earlier.take(headless_service(one) if pods else kubeflow_job(one, kubernetes))
    return await open_job(cluster, one, kubernetes, later, lambda *_: None).run()


def _operator(kubernetes: KubernetesConfig, pipeline: PipelineRef) -> ComponentPodOperator:
    return SleepingOperator(task_id="transform", pipeline=pipeline, kubernetes=kubernetes)


def _context(attempt: int) -> dict[str, Any]:
    task = SimpleNamespace(dag_id="digits", run_id=RUN_ID, task_id="transform")
    task.try_number, task.max_tries, task.map_index = attempt, 0, -1
    task.xcom_push = lambda **_: None
    dag_run = SimpleNamespace(conf={})
    return {"run_id": RUN_ID, "dag_run": dag_run, "dag": None, "ti": task}


def _deferred(kubernetes: KubernetesConfig, pipeline: PipelineRef, attempt: int) -> PodTrigger:
    with pytest.raises(TaskDeferred) as raised:
        _operator(kubernetes, pipeline).execute(_context(attempt))
    trigger = raised.value.trigger
    assert isinstance(trigger, PodTrigger)
    return trigger


async def _deleted_under(trigger: PodTrigger, cluster: TestCluster) -> dict[str, Any]:
    """Take the pod away while the trigger follows it; return what the task resumes with."""

    def delete() -> None:
        wait_for(lambda: cluster.pods()[trigger.pod]["status"]["phase"] == "Running", 240)
        cluster.kubectl("delete", "pod", trigger.pod, "--grace-period=0", "--force")

    deleting = asyncio.create_task(asyncio.to_thread(delete))
    async for event in trigger.run():
        await deleting
        return dict(event.payload)
    raise AssertionError("the trigger ended without an event")


# --- what came of it ---


def test_check_sees_all_that_it_needs_with_the_launchers_rights(walk: Walk) -> None:
    assert walk.report == ClusterReport(problems=[], warnings=[])


def test_jobs_of_every_kind_are_adopted_followed_and_removed_with_them(walk: Walk) -> None:
    assert walk.ends["pods"].is_good
    for kind in ("tfjob", "mpijob", "pytorchjob"):
        assert "does the cluster run Kubeflow's operator?" in walk.ends[kind].reason
        assert not walk.cluster.get(f"{kind}s.kubeflow.org")
    assert walk.ends["too-much"].exit_code == 2
    assert "no node can ever give this: nvidia.com/gpu" in walk.ends["too-much"].reason


def test_the_launcher_may_do_what_it_does_and_nothing_else(walk: Walk) -> None:
    assert walk.used == granted("slipway-launcher")


def test_a_components_deleted_pod_is_a_failure_unless_its_record_is_there(walk: Walk) -> None:
    """apache/airflow#73117 on a real cluster: nobody takes a pod that is gone for a success."""
    with pytest.raises(AirflowException, match="(?s)transform: .*was deleted"):
        walk.resume()
    run = walk.pipeline.run(RUN_ID)
    run.attempts("transform").mkdir(parents=True)
    (run.attempts("transform") / "1").touch()
    named = {"step": "transform", "pipeline": "digits", "run_id": RUN_ID, "attempt": 1}
    timed = {"started_at": datetime.now(UTC), "seconds": 1.0}
    Result(**named, **timed, inputs={}, metrics={"rows": 3.0}).write(run.result("transform"))
    assert walk.resume()["metrics"] == {"rows": 3.0}


@pytest.mark.parametrize(
    ("account", "resource"),
    [
        ("slipway-launcher", "secrets"),
        ("slipway-launcher", "configmaps"),
        ("slipway-launcher", "apps/v1/deployments"),
        ("slipway-agent", "secrets"),
        ("slipway-agent", "configmaps"),
        ("slipway-agent", "services"),
    ],
)
def test_what_an_account_does_not_need_is_forbidden(
    account: str, resource: str, accounts: Callable[[str], ClusterConfig]
) -> None:
    async def look() -> None:
        async with Cluster(accounts(account)) as cluster:
            await cluster.list(resource, {})

    with pytest.raises(ConfigError, match="forbidden.*Give the service account the verbs"):
        asyncio.run(look())


@pytest.mark.parametrize(
    ("account", "namespace"), [("slipway-launcher", "default"), ("slipway-agent", None)]
)
def test_pods_elsewhere_and_the_agents_pods_are_forbidden(
    account: str, namespace: str | None, accounts: Callable[[str], ClusterConfig]
) -> None:
    async def make() -> None:
        settings = accounts(account)
        changes = {"namespace": namespace or settings.namespace}
        async with Cluster(settings.model_copy(update=changes)) as cluster:
            await cluster.create("pods", {"metadata": {"name": "x"}}, is_trial=True)

    with pytest.raises(ConfigError, match="forbidden"):
        asyncio.run(make())
