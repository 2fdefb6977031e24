"""Pods that share a volume pass; a claim that is missing, unbound or not shared is a problem."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from small_cluster import NAMESPACE, Pod, SmallCluster

from contract.schema.cluster import KubernetesConfig, PodConfig, VolumeConfig
from launching.cluster.storage_check import StorageReport, storage_report
from launching.cluster.storage_pod import Visit, visiting_pod

ROOT = "/slipway/artifacts"
CLAIM = {"metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteMany"]}}
Behaviour = Callable[[SmallCluster, Pod], Awaitable[None]]


def volume_at(folder: Path) -> Behaviour:
    """Return a node that mounts this folder as the claim, and really runs the pod's command."""
    folder.mkdir(exist_ok=True)

    async def run(cluster: SmallCluster, made: Pod) -> None:
        cluster.run(made)
        _, *words = made["spec"]["containers"][0]["command"]
        words = [str(folder) if word == ROOT else word for word in words]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode is not None
        cluster.end(made, process.returncode, said.decode())

    return run


def waiting_for(message: str) -> Behaviour:
    """Return a scheduler that finds no node, and says why."""

    async def wait(cluster: SmallCluster, made: Pod) -> None:
        said = {"type": "PodScheduled", "status": "False", "message": message}
        cluster.change("pods", made, status={"phase": "Pending", "conditions": [said]})

    return wait


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("storage_check", "storage_pod"):
        monkeypatch.setattr(f"launching.cluster.{module}._LOOK_SECONDS", 0.02)


@contextlib.contextmanager
def clusters(tmp_path: Path, **behaviours: Behaviour) -> Iterator[dict[str, SmallCluster]]:
    with contextlib.ExitStack() as stack:
        found = {}
        for name, behaviour in behaviours.items():
            found[name] = stack.enter_context(SmallCluster(tmp_path, behaviour))
            found[name].add("persistentvolumeclaims", CLAIM)
        yield found


def report(up: dict[str, SmallCluster], root: str = ROOT, **changes: Any) -> StorageReport:
    return asyncio.run(storage_report(config(up, **changes), root))


def config(up: dict[str, SmallCluster], **changes: Any) -> KubernetesConfig:
    first, *others = up
    given: dict[str, Any] = {
        "clusters": {name: cluster.settings() for name, cluster in up.items()},
        "default_cluster": first,
        "cluster_of": dict.fromkeys(("evaluate", "bless"), others[0]) if others else {},
        "volumes": (VolumeConfig(name="storage", mount_path="/slipway", claim="shared"),),
        "pod": PodConfig(image="i:1", python="python"),
    }
    return KubernetesConfig(**{**given, **changes})


def nothing_is_left(up: dict[str, SmallCluster], *folders: Path) -> bool:
    is_empty = all(not list(folder.iterdir()) for folder in folders)
    return is_empty and not any(cluster.objects("pods") for cluster in up.values())


def test_what_one_cluster_writes_the_other_reads(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    with clusters(tmp_path, train=volume_at(shared), eval=volume_at(shared)) as up:
        found = report(up)
        assert (found.problems, found.warnings) == ([], [])
        assert found.said == [
            f"storage: {ROOT}: pods of 'train' and 'eval' read what the others write"
        ]
        assert [up[name].calls["create pods"] for name in up] == [1, 1]
        assert nothing_is_left(up, shared)


def test_a_volume_of_its_own_in_each_cluster_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_pod._SEEN_SECONDS", 0)
    own = tmp_path / "train", tmp_path / "eval"
    with clusters(tmp_path, train=volume_at(own[0]), eval=volume_at(own[1])) as up:
        (problem,) = report(up).problems
        assert problem.endswith(
            "storage: pod in 'eval': what a pod wrote before is not there: pods do not share one "
            "volume"
        )
        assert nothing_is_left(up, *own)


def test_storage_that_ends_with_its_pod_is_a_problem_in_one_cluster_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_pod._SEEN_SECONDS", 0)
    folders = iter([tmp_path / "first", tmp_path / "second", tmp_path / "third"])

    async def run(cluster: SmallCluster, made: Pod) -> None:
        await volume_at(next(folders))(cluster, made)

    with clusters(tmp_path, train=run) as up:
        (problem,) = report(up, volumes=()).problems
    assert "do not share one volume; root '/slipway/artifacts' is on no volume" in problem


def test_a_user_who_may_not_write_is_told_whose_the_folder_is(tmp_path: Path) -> None:
    async def run(cluster: SmallCluster, made: Pod) -> None:
        # a name too long for a folder: nobody may write it, whoever runs this test
        (container,) = made["spec"]["containers"]
        words = ["x" * 300 if w.startswith(".slipway") else w for w in container["command"]]
        spec = {**made["spec"], "containers": [{**container, "command": words}]}
        await volume_at(tmp_path / "volume")(cluster, {**made, "spec": spec})

    with clusters(tmp_path, train=run) as up:
        (problem,) = report(up).problems
    about = (tmp_path / "volume").stat()
    assert problem.startswith("storage: pod in 'train': [Errno 36] File name too long")
    assert f"as user {os.getuid()}, group {os.getgid()}" in problem
    assert problem.endswith(f"the folder is of {about.st_uid}:{about.st_gid}, mode 755)")


def test_a_claim_that_is_missing_is_named_before_any_pod_runs(tmp_path: Path) -> None:
    with clusters(tmp_path, train=volume_at(tmp_path / "v")) as up:
        volumes = (VolumeConfig(name="storage", mount_path="/slipway", claim="other"),)
        found = report(up, volumes=volumes)
        assert found.problems == [
            f"train: claim 'other': not in namespace '{NAMESPACE}'; create it "
            "(docker/kubernetes/base/storage.yaml), or change volumes in the runtime file"
        ]
        assert up["train"].calls["create pods"] == 0


@pytest.mark.parametrize(
    ("claim", "problem", "warning"),
    [
        ({"status": {"phase": "Lost"}}, "its PersistentVolume is gone (phase Lost)", ""),
        (
            {"spec": {"accessModes": ["ReadWriteOnce"]}},
            "",
            "allows ReadWriteOnce; expected ReadWriteMany",
        ),
    ],
)
def test_what_a_claim_says_of_itself_counts(
    claim: Any, problem: str, warning: str, tmp_path: Path
) -> None:
    with clusters(tmp_path, train=volume_at(tmp_path / "v")) as up:
        up["train"].add("persistentvolumeclaims", {**CLAIM, **claim})
        found = report(up)
    for expected, said in ((problem, found.problems), (warning, found.warnings)):
        assert bool(expected) == bool(said)
        assert expected in "".join(said)


UNBOUND = "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims."


def test_an_unbound_claim_is_a_problem_before_the_time_to_start_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_pod._BIND_SECONDS", 0.0)
    monkeypatch.setattr("launching.cluster.storage_pod._START_SECONDS", 10_000.0)
    with clusters(tmp_path, train=waiting_for(UNBOUND)) as up:
        found = report(up)
        assert found.problems == [f"storage: pod in 'train': {UNBOUND}"]
        assert nothing_is_left(up)


def test_a_claim_that_is_bound_a_little_later_is_none(tmp_path: Path) -> None:
    shared = tmp_path / "shared"

    async def bind(cluster: SmallCluster, made: Pod) -> None:
        await waiting_for(UNBOUND)(cluster, made)
        while cluster.calls["get pods"] < 2:
            await asyncio.sleep(0.01)
        await volume_at(shared)(cluster, made)

    with clusters(tmp_path, train=bind) as up:
        found = report(up)
    assert (found.problems, found.warnings) == ([], [])


def test_a_cluster_without_room_now_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_pod._START_SECONDS", 0.0)
    with clusters(tmp_path, train=waiting_for("0/1 nodes: 1 Insufficient cpu.")) as up:
        found = report(up)
    expected = "storage: pod in 'train': not tried: 0/1 nodes: 1 Insufficient cpu."
    assert (found.problems, found.warnings) == ([], [expected])


def test_a_volume_that_cannot_be_mounted_is_told_by_the_pods_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_pod._START_SECONDS", 0.0)

    async def mount(cluster: SmallCluster, made: Pod) -> None:
        spec = {**made["spec"], "nodeName": "node"}
        cluster.change("pods", made, spec=spec, status={"phase": "Pending"})
        about = {"uid": made["metadata"]["uid"]}
        event = {"reason": "FailedMount", "message": "no route to host", "involvedObject": about}
        cluster._keep("events", {"metadata": {"name": "e"}, **event})

    with clusters(tmp_path, train=mount) as up:
        assert report(up).problems == ["storage: pod in 'train': FailedMount: no route to host"]


def test_a_root_that_is_another_folder_here_than_in_pods_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_check._SEEN_SECONDS", 0.1)
    here, volume = tmp_path / "here", tmp_path / "volume"
    here.mkdir()

    async def run(cluster: SmallCluster, made: Pod) -> None:
        (container,) = made["spec"]["containers"]
        words = [ROOT if word == str(here) else word for word in container["command"]]
        spec = {**made["spec"], "containers": [{**container, "command": words}]}
        await volume_at(volume)(cluster, {**made, "spec": spec})

    with clusters(tmp_path, train=run) as up:
        found = report(up, root=str(here))
    assert f"{here} of this machine is not what pods see at that path" in found.warnings[0]
    assert not list(here.iterdir())


def test_the_pods_have_none_of_the_steps_secrets(tmp_path: Path) -> None:
    with clusters(tmp_path, train=volume_at(tmp_path / "v")) as up:
        secret = PodConfig(image="i:1", environment_secrets=("slipway-tracking",))
        kubernetes = config(up, pod=secret, steps={"ingest": secret})
    body = visiting_pod(kubernetes, Visit("train", "ingest", PurePath("/slipway/.x"), 0, "more"))
    assert "envFrom" not in body["spec"]["containers"][0]


def test_who_interrupts_the_check_leaves_no_pod(tmp_path: Path) -> None:
    async def interrupt(up: dict[str, SmallCluster]) -> None:
        checking = asyncio.create_task(storage_report(config(up), ROOT))
        while not up["train"].objects("pods"):
            await asyncio.sleep(0.01)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking

    with clusters(tmp_path, train=waiting_for("0/1 nodes: 1 Insufficient cpu.")) as up:
        asyncio.run(interrupt(up))
        assert nothing_is_left(up)


def test_an_api_server_that_refuses_later_is_a_problem_and_nothing_is_left(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    with clusters(tmp_path, train=volume_at(shared), eval=volume_at(shared)) as up:
        up["eval"].forbidden = {"create pods"}
        (problem,) = report(up).problems
        assert problem.startswith("storage: pod in 'eval': cluster 'one'")
        assert f"The right to create pods in namespace '{NAMESPACE}' is missing" in problem
        assert nothing_is_left(up, shared)


def test_a_pod_that_can_make_the_folder_and_no_file_leaves_no_folder(tmp_path: Path) -> None:
    volume = tmp_path / "volume"

    async def run(cluster: SmallCluster, made: Pod) -> None:
        (container,) = made["spec"]["containers"]
        words = ["0" * 300 if word == "0" else word for word in container["command"]]
        spec = {**made["spec"], "containers": [{**container, "command": words}]}
        await volume_at(volume)(cluster, {**made, "spec": spec})

    with clusters(tmp_path, train=run) as up:
        (problem,) = report(up).problems
        assert "File name too long" in problem
        assert nothing_is_left(up, volume)


def test_a_root_in_which_this_user_can_make_no_folder_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.storage_check._SEEN_SECONDS", 0.1)

    async def run(cluster: SmallCluster, made: Pod) -> None:
        (container,) = made["spec"]["containers"]
        words = [ROOT if word == "/proc" else word for word in container["command"]]
        spec = {**made["spec"], "containers": [{**container, "command": words}]}
        await volume_at(tmp_path / "volume")(cluster, {**made, "spec": spec})

    with clusters(tmp_path, train=run) as up:
        found = report(up, root="/proc")  # nobody can make a folder there
    assert found.problems == []
    assert found.warnings[0].startswith("storage: [Errno 2] No such file or directory: '/proc/.sl")
    assert found.warnings[0].endswith("'; Airflow's user must be able to write there")
