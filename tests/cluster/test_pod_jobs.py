"""Jobs of plain pods on a real cluster; small scripts in the trainer's place."""

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clusters import PYTHON, TestCluster, evict, host_pods, let_pods_in, wait_for

from contract.clients.cluster import Cluster
from contract.schema.cluster import JobConfig, KubernetesConfig, PodConfig
from launching.cluster.claim import Claim
from launching.cluster.manifests import JOB, REPLICA, TASK
from launching.cluster.pods import SERVICES, PodJob
from launching.cluster.reaper import reap
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

# Limits of waiting, for a node that is busy with other tests.
START_SECONDS = 240.0
REMOVAL_SECONDS = 180.0

TASK_LINES = (
    "import json, os, sys, time, socket\n"
    "c = json.loads(os.environ['TF_CONFIG']); t = c['task']\n"
    "role, index = t['type'], t['index']\n"
)


@dataclass
class Running:
    """A job that is driven in a thread, as a triggerer drives it."""

    job: JobSpec
    cluster: TestCluster
    kubernetes: KubernetesConfig
    attempt: int = 1
    said: list[str] = field(default_factory=list)
    end: JobEnd | None = None
    error: BaseException | None = None
    calls: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _task: Any = None

    def start(self) -> "Running":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def crash(self) -> None:
        """Stop driving, as if killed: nothing is removed."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(120)

    def wait(self, seconds: float = 300) -> JobEnd:
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error
        assert self.end is not None, f"not over within {seconds} s: {self.said}"
        return self.end

    def kill(self) -> bool:
        return asyncio.run(self._kill())

    def pods(self) -> dict[str, Any]:
        return self.cluster.pods(f"{JOB}={self.job.name}")

    def _say(self, level: int, text: str) -> None:
        self.said.append(f"{logging.getLevelName(level)} {text}")

    def _claim(self, cluster: Cluster) -> Claim:
        return Claim(cluster, SERVICES, self.job.labels, 0, self.attempt)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._drive())
        try:
            self.end = self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001 (handed to the waiter)
            self.error = error

    async def _drive(self) -> JobEnd:
        async with Cluster(self.cluster.settings, patience_seconds=60) as cluster:
            try:
                claim = self._claim(cluster)
                return await PodJob(cluster, self.job, self.kubernetes, claim, self._say).run()
            finally:
                self.calls = cluster.calls

    async def _kill(self) -> bool:
        async with Cluster(self.cluster.settings) as cluster:
            claim = self._claim(cluster)
            return await PodJob(cluster, self.job, self.kubernetes, claim, self._say).kill()


@dataclass
class Scene:
    clusters: dict[str, TestCluster]
    folder: Path
    running: list[Running] = field(default_factory=list)

    def job(self, script: str, attempt: int = 1, **changes: Any) -> Running:
        settings: dict[str, Any] = {
            "max_restarts": 1,
            "restart_backoff_seconds": 0.2,
            "grace_seconds": 1,
        }
        settings |= {"gang_seconds": 60.0, "start_deadline_seconds": 180.0}
        settings |= changes.pop("settings", {})
        kubernetes = host_pods(self.clusters, self.folder, **changes.pop("kubernetes", {}))
        given = {
            "name": (name := f"job-{uuid.uuid4().hex[:8]}"),
            "labels": {TASK: name},
            "step": "train",
            "command": (
                PYTHON,
                "-c",
                TASK_LINES + f"D={str(self.folder)!r}\n" + script,
            ),
            "replicas": {"chief": 1, "worker": 1},
            "settings": JobConfig(**settings),
        }
        one = Running(JobSpec(**{**given, **changes}), self.clusters["train"], kubernetes, attempt)
        self.running.append(one)
        return one.start()

    def again(self, earlier: Running, attempt: int) -> Running:
        one = Running(earlier.job, earlier.cluster, earlier.kubernetes, attempt)
        self.running.append(one)
        return one.start()


@pytest.fixture
def scene(clusters: dict[str, TestCluster], tmp_path: Path) -> Iterator[Scene]:
    let_pods_in(tmp_path)
    made = Scene(clusters, tmp_path)
    yield made
    for name in {one.job.name for one in made.running}:
        clusters["train"].kubectl("delete", "service", name, "--ignore-not-found", "--wait=false")
        clusters["train"].kubectl(
            "delete", "pods", "-l", f"{JOB}={name}", "--wait=false", "--grace-period=0", "--force"
        )


COUNT = "open(f'{D}/{role}-{index}', 'a').write('x')\n"
FIRST = COUNT + "first = len(open(f'{D}/{role}-{index}').read()) == 1\n"


def starts(folder: Path, name: str) -> int:
    return len((folder / name).read_text())


def are_started(scene: Scene, one: Running) -> bool:
    """Tell whether the driver has seen the whole gang start, and each member counts its starts."""
    is_seen = any("started: " in line for line in one.said)
    return is_seen and all((scene.folder / str(m)).exists() for m in one.job.members())


def test_roles_find_each_other_and_nothing_is_left_after_the_chiefs_end(scene: Scene) -> None:
    one = scene.job(
        """
port = int(c['cluster'][role][index].rsplit(':', 1)[1])
if role == 'worker':
    s = socket.create_server(('', port))
    s.settimeout(60)
    s.accept()[0].sendall(b'hello')
    time.sleep(600)
host = c['cluster']['worker'][0].rsplit(':', 1)[0]
for _ in range(300):
    try:
        heard = socket.create_connection((host, port)).recv(9)
        print('2026-01-01 10:00:00,000 WARNING heard', heard)
        break
    except OSError: time.sleep(0.1)
else: sys.exit(1)
"""
    )
    assert one.wait() == JobEnd(0, "chief-0 has ended well")
    assert "WARNING [chief-0] heard b'hello'" in one.said
    wait_for(lambda: not one.pods(), REMOVAL_SECONDS, "removal of the pods")
    assert one.job.name not in one.cluster.kubectl("get", "services")


def test_a_killed_worker_restarts_all_of_an_all_reduce_and_only_so_often(scene: Scene) -> None:
    one = scene.job(FIRST + "time.sleep(600 if first or role == 'worker' else 2)")
    wait_for(lambda: are_started(scene, one), START_SECONDS)
    one.cluster.kill_container(f"{one.job.name}-worker-0-0")
    assert one.wait().is_good
    assert [starts(scene.folder, name) for name in ("chief-0", "worker-0")] == [2, 2]
    assert any(
        "worker-0: exit code 137" in line and "starting chief-0" in line for line in one.said
    )


def delete(cluster: TestCluster, pod: str) -> None:
    cluster.kubectl("delete", "pod", pod, "--wait=false")


@pytest.mark.parametrize("end_it", [delete, evict])
def test_a_pod_that_was_taken_away_is_replaced_alone_where_that_is_possible(
    end_it: Callable[[TestCluster, str], None], scene: Scene
) -> None:
    wait = "while not os.path.exists(D + '/go'): time.sleep(0.1)\n"
    settings = {"max_restarts": 0}  # which are for processes that fail by themselves
    one = scene.job(COUNT + wait, replaceable=frozenset({"worker"}), settings=settings)
    wait_for(lambda: are_started(scene, one), START_SECONDS)
    end_it(one.cluster, f"{one.job.name}-worker-0-0")
    wait_for(lambda: starts(scene.folder, "worker-0") == 2, START_SECONDS)
    (scene.folder / "go").touch()
    assert one.wait().is_good
    assert starts(scene.folder, "chief-0") == 1


def test_a_deleted_service_is_put_back_and_its_pods_are_started_again(scene: Scene) -> None:
    wait = "while not os.path.exists(D + '/go'): time.sleep(0.1)\n"
    one = scene.job(COUNT + wait, settings={"max_restarts": 0})
    members = ("chief-0", "worker-0")
    wait_for(lambda: are_started(scene, one), START_SECONDS)
    one.cluster.kubectl("delete", "service", one.job.name)
    wait_for(lambda: all(starts(scene.folder, name) == 2 for name in members), START_SECONDS)
    (scene.folder / "go").touch()
    assert one.wait().is_good
    assert any("its pod was deleted by somebody" in line for line in one.said)


def test_restarts_end_and_a_users_mistake_has_none(scene: Scene) -> None:
    one = scene.job(COUNT + "sys.exit(3 if role == 'chief' else time.sleep(600))")
    two = scene.job("sys.exit(2 if role == 'chief' else time.sleep(600))")
    end = one.wait()
    assert end == JobEnd(1, "chief-0: exit code 3; role 'chief' was restarted 1 times")
    assert starts(scene.folder, "chief-0") == 2
    assert two.wait() == JobEnd(2, "chief-0: exit code 2")


def test_a_crashed_drivers_job_is_adopted_and_runs_on(scene: Scene) -> None:
    wait = "while not os.path.exists(D + '/go'): time.sleep(0.1)\n"
    one = scene.job(COUNT + wait)
    wait_for(lambda: are_started(scene, one), START_SECONDS)
    one.crash()
    assert len(one.pods()) == 2
    two = scene.again(one, attempt=2)
    wait_for(lambda: any("adopted" in line for line in two.said), START_SECONDS)
    assert one.kill() is False, "an attempt that no longer owns the job must not remove it"
    assert len(one.pods()) == 2
    (scene.folder / "go").touch()
    assert two.wait().is_good
    assert [starts(scene.folder, name) for name in ("chief-0", "worker-0")] == [1, 1]
    assert any("adopted" in line for line in two.said)


def test_a_killed_job_is_gone_within_ten_seconds(scene: Scene) -> None:
    one = scene.job(COUNT + "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)")
    wait_for(lambda: (scene.folder / "chief-0").exists(), START_SECONDS)
    one.crash()
    began = time.monotonic()
    assert one.kill() is True
    wait_for(lambda: not one.pods(), 10)
    assert time.monotonic() - began < 10


def test_of_two_gangs_one_runs_whole_and_the_other_waits_whole(scene: Scene) -> None:
    gpus = {"pod": host_pods(scene.clusters, scene.folder).pod.model_copy(update={"gpus": 1})}
    script = "while role == 'worker' or not os.path.exists(D + '/go'): time.sleep(0.1)\n"
    settings = {"gang_seconds": 3.0}
    both = [scene.job(script, kubernetes=gpus, settings=settings) for _ in range(2)]

    def running() -> list[int]:
        pods = [one.pods().values() for one in both]
        return sorted(sum(p["status"]["phase"] == "Running" for p in own) for own in pods)

    def waiting() -> list[str]:
        return [line for one in both for line in one.said if "so none does" in line]

    wait_for(lambda: running() == [0, 2] and waiting(), START_SECONDS, "one runs, one waits")
    assert any("Insufficient nvidia.com/gpu" in line for line in waiting())
    (scene.folder / "go").touch()
    assert all(one.wait().is_good for one in both)


def test_a_node_without_room_ends_in_a_deadline_that_names_what_is_missing(scene: Scene) -> None:
    both = {"roles": {"chief": PodConfig(gpus=2), "worker": PodConfig(gpus=1)}}
    # in one attempt, whose end finds what the scheduler has said
    settings = {"start_deadline_seconds": 15.0, "gang_seconds": 60.0}
    one = scene.job("time.sleep(600)", kubernetes=both, settings=settings)
    end = one.wait()
    assert end.exit_code == 1
    assert "not started within 15 s" in end.reason
    assert "-0 waits for 0/1 nodes are available: 1 Insufficient nvidia.com/gpu" in end.reason
    assert not one.pods()


def test_what_no_node_can_ever_give_ends_the_job_at_once(scene: Scene) -> None:
    one = scene.job("pass", kubernetes={"roles": {"chief": PodConfig(gpus=3)}})
    began = time.monotonic()
    end = one.wait()
    assert end.exit_code == 2
    assert "chief-0-0 can never start: no node can ever give this: nvidia.com/gpu" in end.reason
    assert time.monotonic() - began < 10
    assert not one.pods()


@pytest.mark.parametrize(
    ("policy", "message"), [("Never", "ErrImageNeverPull"), ("IfNotPresent", "ErrImagePull")]
)
def test_a_missing_image_ends_the_job_after_the_while_it_is_given(
    policy: str, message: str, scene: Scene
) -> None:
    none = {"image": "localhost/no:1", "image_pull_policy": policy}
    pod = host_pods(scene.clusters, scene.folder).pod.model_copy(update=none)
    one = scene.job("pass", kubernetes={"pod": pod, "pull_retry_seconds": 3.0})
    began = time.monotonic()
    end = one.wait()
    assert end.exit_code == 2
    assert f"-0-0 can never start: image localhost/no:1: {message}: " in end.reason
    assert time.monotonic() - began < 20
    assert not one.pods()


def test_what_the_kubelet_lacks_is_told_while_it_lacks_it(scene: Scene) -> None:
    mount = {"name": "config", "mountPath": "/config"}
    volume = {"name": "config", "configMap": {"name": "missing"}}
    pod = host_pods(scene.clusters, scene.folder).pod
    spec = pod.template["spec"]
    (container,) = spec["containers"]
    own = {**container, "volumeMounts": [*container["volumeMounts"], mount]}
    template = {"spec": {"containers": [own], "volumes": [*spec["volumes"], volume]}}
    one = scene.job("pass", kubernetes={"pod": pod.model_copy(update={"template": template})})

    def is_told() -> bool:
        lines = [line for line in one.said if "FailedMount" in line]
        return any(
            "[chief-0]" in line and 'configmap "missing" not found' in line for line in lines
        )

    wait_for(is_told, START_SECONDS, "an event in the log")
    one.crash()


def test_parameter_servers_may_have_nodes_of_their_own(scene: Scene) -> None:
    pool, cluster = f"slipway-{uuid.uuid4().hex[:8]}", scene.clusters["train"]
    (node,) = cluster.get("nodes")
    cluster.kubectl("label", "node", node["metadata"]["name"], f"pool={pool}")
    try:
        one = scene.job(
            "time.sleep(600)",
            replicas={"chief": 1, "ps": 1},
            kubernetes={"roles": {"ps": PodConfig(node_selector={"pool": pool})}},
        )
        wait_for(lambda: any("started: chief-0, ps-0" in line for line in one.said), START_SECONDS)
        selectors = {
            pod["metadata"]["labels"][REPLICA]: pod["spec"].get("nodeSelector")
            for pod in one.pods().values()
        }
        one.crash()
    finally:
        cluster.kubectl("label", "node", node["metadata"]["name"], "pool-")
    assert selectors == {"chief-0": None, "ps-0": {"pool": pool}}


def test_an_exceeded_quota_keeps_no_pod_and_is_named(scene: Scene) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    scene.clusters["train"].apply(quota)
    try:
        settings = {"start_deadline_seconds": 8.0, "gang_seconds": 3.0}
        one = scene.job("time.sleep(600)", settings=settings)
        end = one.wait()
    finally:
        scene.clusters["train"].kubectl("delete", "resourcequota", "small")
    assert end.exit_code == 1
    assert "exceeded quota: small" in end.reason
    assert not one.pods()


def test_the_reaper_removes_what_nobody_came_back_for_and_nothing_else(scene: Scene) -> None:
    one = scene.job(COUNT + "time.sleep(600)")
    wait_for(lambda: (scene.folder / "chief-0").exists(), START_SECONDS)
    one.crash()

    async def reaped(ttl_seconds: int) -> list[str]:
        async with Cluster(one.cluster.settings) as cluster:
            return await reap(cluster, ttl_seconds)

    assert one.job.name not in asyncio.run(reaped(3600))
    assert one.job.name in asyncio.run(reaped(0))
    wait_for(lambda: not one.pods(), REMOVAL_SECONDS, "removal by the owner's end")
