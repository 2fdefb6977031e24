"""Jobs under a queue (Kueue) and where nodes come on demand: none of our clocks counts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_cluster import Pod, SmallCluster

from contract.clients.cluster import Cluster
from contract.errors import ConfigError
from contract.pods import QUEUE
from contract.schema.cluster import JobConfig, KubernetesConfig, PodConfig
from launching.cluster import kubeflow, pods
from launching.cluster.claim import Claim
from launching.cluster.kinds import RESOURCES, open_job
from launching.cluster.kubeflow import kubeflow_job
from launching.cluster.manifests import REPLICA
from launching.cluster.pod_status import is_unschedulable, waits_for
from launching.cluster.queueing import (
    GROUP,
    GROUP_COUNT,
    RETRIED,
    WORKLOADS,
    in_group,
    queue_of,
    remove_workload,
)
from launching.job_spec import JobSpec, Replica
from launching.restarts import JobEnd

GATE = {"name": "kueue.x-k8s.io/admission"}
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gates"}
NO_NODE = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}
SIZE = 3
LATER_SECONDS = 10_000.0  # beyond every clock of a job


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The drivers' clock: the real one, and `later` beside it."""
    ours = SimpleNamespace(later=0.0)
    ours.monotonic = lambda: time.monotonic() + ours.later
    for module in (pods, kubeflow):
        monkeypatch.setattr(module, "time", ours)
    return ours


def job(kind: Any = "pods") -> JobSpec:
    return JobSpec(
        name="job",
        step="train",
        command=("true",),
        replicas={"chief": 1, "worker": SIZE - 1},
        settings=JobConfig(kind=kind, grace_seconds=0),
    )


def config(cluster: SmallCluster, queue: str = "team-a", **changes: Any) -> KubernetesConfig:
    return KubernetesConfig(
        clusters={"one": cluster.settings(**changes)},
        default_cluster="one",
        pod=PodConfig(image="i:1", queue=queue),
    )


async def drive(
    kubernetes: KubernetesConfig, said: list[str], kind: Any = "pods", one: JobSpec | None = None
) -> JobEnd:
    async with Cluster(kubernetes.clusters["one"]) as api:
        claim = Claim(api, RESOURCES[kind], {"slipway/task": "t"}, 0, 1)
        one = one or job(kind)
        work = open_job(api, one, kubernetes, claim, lambda _, text: said.append(text)).run()
        return await asyncio.wait_for(work, 100)


def queue_that_admits(
    clock: SimpleNamespace, said: list[str]
) -> Callable[[SmallCluster, Pod], Awaitable[None]]:
    """Return what Kueue does: gate each pod, and admit a group when it is whole, much later."""

    async def gate(cluster: SmallCluster, made: Pod) -> None:
        spec = {**made["spec"], "schedulingGates": [GATE]}
        cluster.change("pods", made, spec=spec, status={"phase": "Pending", "conditions": [GATED]})
        group = made["metadata"]["labels"][GROUP]
        if len(members(cluster, group)) < int(made["metadata"]["annotations"][GROUP_COUNT]):
            return
        await until_said(said, "waits for admission by queue 'team-a'", SIZE)
        clock.later += LATER_SECONDS
        for one in members(cluster, group):
            left = {key: value for key, value in one["spec"].items() if key != "schedulingGates"}
            cluster.change("pods", one, spec=left)
        await nodes_come_late(cluster, members(cluster, group), clock, said)

    return gate


async def nodes_come_late(
    cluster: SmallCluster, waiting: list[Pod], clock: SimpleNamespace, said: list[str]
) -> None:
    """Give pods nodes after the gang's patience; the driver has looked at them before and after."""
    for message in ("Insufficient cpu", "still Insufficient cpu"):
        no_node = {**NO_NODE, "message": message}
        for one in waiting:
            cluster.change("pods", one, status={"phase": "Pending", "conditions": [no_node]})
        await until_said(said, f"waits for {message}", len(waiting))
        clock.later += job().settings.gang_seconds + 1
    for one in cluster.objects("pods"):
        cluster.run(one)
        cluster.end(one)


async def until_said(said: list[str], words: str, times: int) -> None:
    while sum(words in text for text in said) < times:
        await asyncio.sleep(0.02)


def members(cluster: SmallCluster, group: str) -> list[Pod]:
    found = cluster.objects("pods")
    return [one for one in found if one["metadata"]["labels"].get(GROUP) == group]


def test_a_job_waits_in_its_queue_for_as_long_as_it_takes(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    said: list[str] = []
    with SmallCluster(tmp_path, queue_that_admits(clock, said)) as cluster:
        end = asyncio.run(drive(config(cluster), said))
        assert end.is_good
        assert cluster.calls["create pods"] == SIZE  # nothing was given up meanwhile
    assert sum("waits for admission" in text for text in said) == SIZE
    assert not any("so none does" in text for text in said)


def workload(group: str) -> Pod:
    return {"metadata": {"name": group, "uid": group}}


async def hold_back(cluster: SmallCluster, made: Pod) -> None:
    """Gate a pod, and make the Workload of its group, as Kueue does."""
    cluster.change("pods", made, spec={**made["spec"], "schedulingGates": [GATE]})
    cluster._keep(WORKLOADS, workload(made["metadata"]["labels"][GROUP]))


def test_a_job_that_its_queue_never_admits_ends_and_leaves_no_group(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    said: list[str] = []

    async def too_late(cluster: SmallCluster, made: Pod) -> None:
        await hold_back(cluster, made)
        await until_said(said, "waits for admission by queue 'team-a'", SIZE)
        clock.later = job().settings.queue_deadline_seconds + 1

    with SmallCluster(tmp_path, too_late) as cluster:
        cluster.add(WORKLOADS, workload("job-1"))
        end = asyncio.run(drive(config(cluster), said))
        left = [one["metadata"]["name"] for one in cluster.objects(WORKLOADS)]
        assert (left, cluster.objects("pods")) == (["job-1"], []), "another's is not touched"
    assert not end.is_good
    assert end.reason.startswith(
        "not started within 604800 s: chief-0 waits for admission by queue"
    )


def test_a_killed_job_deletes_the_groups_of_all_its_rounds(tmp_path: Path) -> None:
    said: list[str] = []

    async def kill(kubernetes: KubernetesConfig) -> None:
        running = asyncio.create_task(drive(kubernetes, said))
        await until_said(said, "waits for admission", SIZE)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with Cluster(kubernetes.clusters["one"]) as api:  # as the process that kills it
            claim = Claim(api, RESOURCES["pods"], {"slipway/task": "t"}, 0, 1)
            await claim.find("job")
            await claim.save({"whole": 2})
            assert await open_job(api, job(), kubernetes, claim, lambda *_: None).kill()

    with SmallCluster(tmp_path, hold_back) as cluster:
        for round_ in range(1, 4):
            cluster.add(WORKLOADS, workload(f"job-{round_}"))
        asyncio.run(kill(config(cluster)))
        assert [one["metadata"]["name"] for one in cluster.objects(WORKLOADS)] == ["job-3"]


def test_without_the_right_the_log_names_the_command_that_ends_a_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def remove(kubernetes: KubernetesConfig) -> None:
        async with Cluster(kubernetes.clusters["one"]) as api:
            await remove_workload(api, "job-0")

    with SmallCluster(tmp_path, hold_back) as cluster:
        cluster.forbidden = {f"delete {WORKLOADS}"}
        asyncio.run(remove(config(cluster)))
    assert "delete workload job-0' ends it" in caplog.text


def evaluation() -> JobSpec:
    return job().model_copy(
        update={
            "replicas": {"evaluator": 2},
            "replaceable": frozenset({"evaluator"}),
            "settings": JobConfig(grace_seconds=0, restart_backoff_seconds=0.01),
        }
    )


def test_who_is_replaced_alone_stays_in_the_group_and_is_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_SETTLE_SECONDS", 0.01)
    said: list[str] = []
    groups = set()

    async def admit(cluster: SmallCluster, made: Pod) -> None:
        """Admit a pod when its group is whole; the first evaluator fails once."""
        cluster.change("pods", made, spec={**made["spec"], "schedulingGates": [GATE]})
        groups.add(group := made["metadata"]["labels"][GROUP])
        while len(members(cluster, group)) < int(made["metadata"]["annotations"][GROUP_COUNT]):
            await asyncio.sleep(0.02)
        cluster.run(made)
        for number in range(2):
            if made["metadata"]["name"] == f"job-evaluator-0-{number}":
                await until_said(said, "started: evaluator-0", number + 1)
                cluster.end(made, 1 - number)

    with SmallCluster(tmp_path, admit) as cluster:
        end = asyncio.run(drive(config(cluster), said, one=evaluation()))
    assert end.is_good
    assert groups == {"job-0"}


def test_all_that_start_again_together_are_a_new_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_SETTLE_SECONDS", 0.01)
    said: list[str] = []
    groups: list[str] = []

    async def fail_once(cluster: SmallCluster, made: Pod) -> None:
        groups.append(made["metadata"]["labels"][GROUP])
        cluster.run(made)
        await until_said(said, "started: chief-0", 1 + groups[-1].endswith("-1"))
        if made["metadata"]["labels"][REPLICA] == "chief-0":
            cluster.end(made, 0 if groups[-1].endswith("-1") else 1)

    settings = JobConfig(grace_seconds=0, restart_backoff_seconds=0.01)
    one = job().model_copy(update={"settings": settings})
    with SmallCluster(tmp_path, fail_once) as cluster:
        assert asyncio.run(drive(config(cluster), said, one=one)).is_good
    assert groups == ["job-0"] * SIZE + ["job-1"] * SIZE


def test_a_group_ends_with_those_pods_that_are_not_replaced_alone() -> None:
    """Else Kueue would keep the pods of a job that was killed, and their quota."""
    body: Pod = {"metadata": {"name": "p", "labels": {QUEUE: "team-a"}}}
    one = job().model_copy(update={"replaceable": frozenset({"worker"})})
    chief, worker = (
        in_group(body, one, Replica(role, 0), 0)["metadata"] for role in ("chief", "worker")
    )
    assert chief["annotations"] == {GROUP_COUNT: str(SIZE), RETRIED: "false"}
    assert worker["annotations"] == {GROUP_COUNT: str(SIZE)}
    assert chief["labels"] == worker["labels"] == {QUEUE: "team-a", GROUP: "job-0"}


def test_on_demand_nodes_are_waited_for_beyond_the_gangs_patience(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    said: list[str] = []

    async def grow(cluster: SmallCluster, made: Pod) -> None:
        if made["metadata"]["labels"][REPLICA] == "chief-0":
            cluster.run(made)  # has the only node, and keeps it while others are made
        elif len(found := cluster.objects("pods")) == SIZE:
            await nodes_come_late(cluster, found[1:], clock, said)

    with SmallCluster(tmp_path, grow) as cluster:
        end = asyncio.run(drive(config(cluster, queue="", is_autoscaled=True), said))
        assert end.is_good
        assert cluster.calls["create pods"] == SIZE


def test_a_suspended_tfjob_is_waited_for_and_has_the_label_that_kueue_reads(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    said: list[str] = []

    async def no_pods(cluster: SmallCluster, made: Pod) -> None:
        raise AssertionError("a TFJob's pods are its operator's")

    async def operator(cluster: SmallCluster) -> None:
        """Suspend, as Kueue's webhook; much later resume, run and succeed."""
        resource = RESOURCES["tfjob"]
        while not (found := cluster.objects(resource)):
            await asyncio.sleep(0.02)
        assert found[0]["metadata"]["labels"][QUEUE] == "team-a"
        suspended = {**found[0]["spec"], "runPolicy": {"suspend": True}}
        cluster.change(resource, found[0], spec=suspended)
        await until_said(said, "suspended: waits for admission", 1)
        clock.later += LATER_SECONDS
        created, done = (
            {"type": t, "status": "True", "reason": t} for t in ("Created", "Succeeded")
        )
        cluster.change(resource, found[0], status={"conditions": [created]})
        await until_said(said, "created: Created", 1)
        cluster.change(resource, found[0], status={"conditions": [created, done]})

    with SmallCluster(tmp_path, no_pods) as cluster:
        asyncio.run_coroutine_threadsafe(operator(cluster), cluster._loop)
        end = asyncio.run(drive(config(cluster), said, "tfjob"))
    assert end.is_good


def test_pods_of_a_queued_tfjob_are_not_queued_by_themselves(tmp_path: Path) -> None:
    with SmallCluster(tmp_path, queue_that_admits(SimpleNamespace(later=0.0), [])) as cluster:
        made = kubeflow_job(job("tfjob"), config(cluster))
    assert made["metadata"]["labels"][QUEUE] == "team-a"
    specs = made["spec"]["tfReplicaSpecs"].values()
    assert all(QUEUE not in spec["template"]["metadata"]["labels"] for spec in specs)


def test_the_pods_of_a_job_need_one_queue(tmp_path: Path) -> None:
    with SmallCluster(tmp_path, queue_that_admits(SimpleNamespace(later=0.0), [])) as cluster:
        kubernetes = config(cluster).model_copy(
            update={"roles": {"worker": PodConfig(queue="team-b")}}
        )
    expected = "the pods of one job need one queue, found chief: 'team-a', worker: 'team-b'"
    with pytest.raises(ConfigError, match=expected):
        queue_of(job(), kubernetes)


def test_a_gated_pod_says_what_holds_it_and_is_compared_with_no_node() -> None:
    spec = {"schedulingGates": [{"name": "example.com/quota"}]}
    gated: Pod = {"metadata": {"labels": {}}, "spec": spec, "status": {"conditions": [GATED]}}
    assert waits_for(gated) == "its scheduling gates: example.com/quota"
    assert not is_unschedulable(gated)
    admitted = {**gated, "spec": {}, "status": {"conditions": [NO_NODE]}}
    assert waits_for(admitted) == NO_NODE["message"]
    assert is_unschedulable(admitted)
