"""Kubeflow's kinds on a real API server; a stand-in plays the operators that are not to be had."""

import asyncio
import json
import logging
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from clusters import PYTHON, TestCluster, host_pods, let_pods_in, wait_for
from kubeflow_stand_in import KubeflowStandIn

from contract.clients.cluster import Cluster
from contract.schema.cluster import JobConfig, KubernetesConfig
from launching.cluster.claim import Claim
from launching.cluster.kinds import RESOURCES, open_job
from launching.cluster.kubeflow import kubeflow_job
from launching.cluster.manifests import TASK
from launching.cluster.reaper import reap
from launching.job_spec import JobSpec
from launching.restarts import JobEnd


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    let_pods_in(tmp_path)
    return tmp_path


def job(kind: Any, name: str, script: str, **changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": name,
        "step": "train",
        "command": (PYTHON, "-c", script),
        "replicas": {"chief": 1, "worker": 1},
        "labels": {TASK: name},
        "is_mpi": kind == "mpijob",
        "settings": JobConfig(kind=kind, grace_seconds=1, max_restarts=1),
    }
    return JobSpec(**{**given, **changes})


def drive(
    one: JobSpec,
    cluster: TestCluster,
    kubernetes: KubernetesConfig,
    beside: Callable[[list[str]], None] | None = None,
) -> tuple[JobEnd, str]:
    """Drive a job to its end; `beside` runs in a thread and sees what is said."""
    said: list[str] = []
    if beside is not None:
        threading.Thread(target=beside, args=(said,), daemon=True).start()

    def say(level: int, text: str) -> None:
        said.append(f"{logging.getLevelName(level)} {text}")

    async def run() -> JobEnd:
        async with Cluster(cluster.settings, patience_seconds=30) as api:
            claim = Claim(api, RESOURCES[one.settings.kind], one.labels, 0, 1)
            driver = open_job(api, one, kubernetes, claim, say)
            return await asyncio.wait_for(driver.run(), 400)

    return asyncio.run(run()), "\n".join(said)


FIND_EACH_OTHER = """
import json, os, socket, sys, time
c = json.loads(os.environ['TF_CONFIG']); role, index = c['task']['type'], c['task']['index']
if role == 'worker':
    s = socket.create_server(('', 2222)); s.settimeout(60); s.accept()[0].sendall(b'hello')
    time.sleep(600)
host, port = c['cluster']['worker'][0].rsplit(':', 1)
for _ in range(300):
    try:
        print('heard', socket.create_connection((host, int(port))).recv(9)); break
    except OSError: time.sleep(0.1)
else: sys.exit(1)
while not os.path.exists(sys.argv[1]): time.sleep(0.1)  # until all of it was seen to run
"""


CHIEF_FAILS = """
import json, os, sys, time
time.sleep(1)
sys.exit(1 if json.loads(os.environ['TF_CONFIG'])['task']['type'] == 'chief' else time.sleep(600))
"""


def test_a_tfjob_is_followed_to_its_success_and_removed(
    kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    command = (PYTHON, "-c", FIND_EACH_OTHER, str(folder / "go"))

    def let_end(said: list[str]) -> None:
        wait_for(partial(is_said, said, "TFJob is running"), 240)
        (folder / "go").touch()

    with KubeflowStandIn(kubeflow, "TFJob", folder):
        one = job("tfjob", "tf-good", "", command=command)
        end, said = drive(one, kubeflow, host_pods(clusters, folder), let_end)
    assert end.is_good, said
    assert "INFO [chief-0] heard b'hello'" in said
    assert "INFO created: TFJob is created." in said
    assert "INFO running: TFJob is running." in said
    assert not kubeflow.get("tfjobs.v1.kubeflow.org")
    assert not kubeflow.pods("slipway/job=tf-good")


def test_a_tfjobs_restarts_and_failure_are_told(
    kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    with KubeflowStandIn(kubeflow, "TFJob", folder):
        one = job("tfjob", "tf-bad", CHIEF_FAILS)
        end, said = drive(one, kubeflow, host_pods(clusters, folder))
    assert end.exit_code == 1
    assert "WARNING restarting: tf-bad-chief-0 has failed and is restarted" in said
    assert "back-off limit reached" in end.reason


RANKS = """
from mpi4py import MPI
import time
c = MPI.COMM_WORLD
total = c.allreduce(c.Get_rank() + 1)
print(f'rank {c.Get_rank()} of {c.Get_size()} sum {total}\\n', end='', flush=True)  # in one write
"""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt install openmpi-bin")
def test_an_mpijobs_ranks_reduce_among_themselves(
    kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    kubernetes = host_pods(clusters, folder)
    with KubeflowStandIn(kubeflow, "MPIJob", folder):
        one = job(
            "mpijob",
            "mpi-good",
            "",
            command=(kubernetes.pod.python, "-c", RANKS),
            replicas={"worker": 2},
        )
        end, said = drive(one, kubeflow, kubernetes)
    assert end.is_good, said
    assert "rank 0 of 2 sum 3" in said
    assert "rank 1 of 2 sum 3" in said


def is_said(said: list[str], text: str) -> bool:
    return any(text in line for line in list(said))


def set_status(cluster: TestCluster, name: str, kind: str, message: str) -> bool:
    """Write a condition into a PyTorchJob's status, as Kubeflow's operator does."""
    path = f"/apis/kubeflow.org/v1/namespaces/{cluster.namespace}/pytorchjobs/{name}"
    text = cluster.kubectl("get", "--raw", path, is_checked=False)
    if not text:
        return False
    found = json.loads(text)
    conditions = found.get("status", {}).get("conditions", [])
    earlier = [{**c, "status": "False"} for c in conditions if c["type"] != kind]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = {"lastTransitionTime": now, "lastUpdateTime": now}
    condition = {"type": kind, "status": "True", "reason": kind, "message": message, **times}
    found["status"] = {"conditions": [*earlier, condition], "replicaStatuses": {}}
    cluster.kubectl("replace", "--raw", f"{path}/status", "-f", "-", text=json.dumps(found))
    return True


@pytest.mark.parametrize(("last", "exit_code"), [("Succeeded", 0), ("Failed", 1)])
def test_a_pytorchjobs_status_is_followed_through_all_its_states(
    last: str, exit_code: int, kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    """The test plays Kubeflow's operator, as far as the status goes."""
    one = job("pytorchjob", f"torch-{last.lower()}", "")

    def play(said: list[str]) -> None:
        for number, state in enumerate(["Created", "Running", "Restarting", "Running", last]):
            message = f"reason {number}"
            wait_for(partial(set_status, kubeflow, one.name, state, message), 120)
            wait_for(partial(is_said, said, message), 120, message)

    end, said = drive(one, kubeflow, host_pods(clusters, folder), play)
    states = [line for line in said.splitlines() if "reason" in line]
    assert states == [
        "INFO created: reason 0",
        "INFO running: reason 1",
        "WARNING restarting: reason 2",
        "INFO running: reason 3",
        f"INFO {last.lower()}: reason 4",
    ]
    assert end == JobEnd(exit_code, f"{last.lower()}: reason 4")
    assert not kubeflow.get("pytorchjobs.v1.kubeflow.org")


def test_a_kubeflow_jobs_missing_image_ends_it(
    kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    kubernetes = host_pods(clusters, folder)
    pod = kubernetes.pod.model_copy(update={"image": "localhost/no:1"})
    with KubeflowStandIn(kubeflow, "TFJob", folder):
        one = job("tfjob", "tf-no-image", "")
        end, _ = drive(one, kubeflow, kubernetes.model_copy(update={"pod": pod}))
    assert end.exit_code == 2
    assert "can never start: image localhost/no:1: ErrImageNeverPull" in end.reason
    assert not kubeflow.get("tfjobs.v1.kubeflow.org")


def test_the_reaper_removes_a_kubeflow_job_that_nobody_came_back_for(
    kubeflow: TestCluster, clusters: dict[str, TestCluster], folder: Path
) -> None:
    one = job("pytorchjob", "torch-orphan", "")

    async def orphan_and_reap() -> list[str]:
        async with Cluster(kubeflow.settings) as api:
            claim = Claim(api, RESOURCES["pytorchjob"], one.labels, 0, 1)
            await claim.take(kubeflow_job(one, host_pods(clusters, folder)))
            return [*await reap(api, 3600), *await reap(api, 0)]

    assert asyncio.run(orphan_and_reap()) == ["torch-orphan"]
    assert not kubeflow.get("pytorchjobs.v1.kubeflow.org")
