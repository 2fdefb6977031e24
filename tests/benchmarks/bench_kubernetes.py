"""What pods cost beside processes: start, run, loss of a worker; of jobs that do nothing.

Needs a cluster (see tests/cluster/clusters.py). Prints JSON lines; the peers are the same jobs as
processes of this machine. Kubernetes' version is in the first line. What Airflow makes of it is
measured by bench_airflow_on_kubernetes.py, real training by bench_jobs_on_kubernetes.py.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

import pytest
from clusters import ROOT, TestCluster, clusters_up, host_pods, let_pods_in, wait_for
from support import emit

from contract.clients.cluster import Cluster
from contract.schema.cluster import JobConfig
from launching.cluster.claim import Claim
from launching.cluster.manifests import TASK
from launching.cluster.pods import SERVICES, PodJob
from launching.job_spec import JobSpec
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess

SETTINGS = JobConfig(grace_seconds=1, restart_backoff_seconds=0.5)

# Notes when each replica started; the chief works for a while and ends.
SCRIPT = """
import json, os, sys, time
task = json.loads(os.environ['TF_CONFIG'])['task']
name = f"{task['type']}-{task['index']}"
with open(f"{sys.argv[1]}/{name}", 'a') as file:
    file.write(f'{time.time()}\\n')
time.sleep(float(sys.argv[2]) if task['type'] == 'chief' else 600)
"""


def job(name: str, folder: Path, seconds: float, python: str) -> JobSpec:
    return JobSpec(
        name=name,
        step="train",
        command=(python, "-c", SCRIPT, str(folder), str(seconds)),
        replicas={"chief": 1, "worker": 2},
        labels={TASK: name},
        settings=SETTINGS,
    )


def starts(folder: Path) -> dict[str, list[float]]:
    return {p.name: [float(x) for x in p.read_text().split()] for p in folder.iterdir()}


def in_pods(
    up: dict[str, TestCluster], one: JobSpec, folder: Path, beside: Callable[[], None] | None = None
) -> float:
    """Run a job in pods; return its seconds."""
    if beside is not None:
        threading.Thread(target=beside, daemon=True).start()

    async def drive() -> None:
        async with Cluster(up["train"].settings, patience_seconds=30) as cluster:
            claim = Claim(cluster, SERVICES, one.labels, 0, 1)
            kubernetes = host_pods(up, folder)
            await PodJob(cluster, one, kubernetes, claim, lambda *_: None).run()

    began = time.monotonic()
    asyncio.run(drive())
    return time.monotonic() - began


def in_processes(one: JobSpec, folder: Path) -> float:
    command = [sys.executable, "-m", "launching.processes.role_processes", one.model_dump_json()]
    began = time.monotonic()
    start = ProcessStart(tuple(command), {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)
    process = StepProcess(start, folder / ".lock")
    list(process.lines(lambda: None))
    process.wait()
    return time.monotonic() - began


def fresh(base: Path, name: str) -> Path:
    folder = base / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o777)
    return folder


def start_and_cost(up: dict[str, TestCluster], base: Path) -> None:
    """From nothing to the last replica's first line, and the whole of a ten-second job."""
    folder, began = fresh(base, "pods"), time.time()
    seconds = in_pods(up, job("bench-start", folder, 10, "/usr/bin/python3"), folder)
    started = max(times[0] for times in starts(folder).values()) - began
    folder, began = fresh(base, "processes"), time.time()
    peer = in_processes(job("bench-start", folder, 10, "/usr/bin/python3"), folder)
    names = starts(folder)
    names.pop(".lock", None)
    peer_started = max(times[0] for times in names.values()) - began
    emit("start_of_three_roles", started, peer_started, None, "s")
    emit("ten_second_job", seconds, peer, None, "s")


def recovery(up: dict[str, TestCluster], base: Path) -> None:
    """From the kill of a worker to the last replica of the restarted job."""
    for role in ("worker-0", "chief-0"):
        folder, killed = fresh(base, f"recovery-{role}"), 0.0
        one = job(f"bench-{role}", folder, 20, "/usr/bin/python3")

        def kill(folder: Path = folder, one: JobSpec = one, role: str = role) -> None:
            nonlocal killed
            wait_for(lambda: len(starts(folder)) == 3, 60)
            time.sleep(2)
            killed = time.time()
            up["train"].kill_container(f"{one.name}-{role}-0")

        in_pods(up, one, folder, kill)
        again = max(times[-1] for times in starts(folder).values())
        emit(f"recovery_after_kill_of_{role}", again - killed, None, None, "s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, clusters_up(("train",)) as up:
        base = Path(folder)
        let_pods_in(base)
        version: dict[str, Any] = json.loads(up["train"].kubectl("version", "-o", "json"))
        server = version["serverVersion"]["gitVersion"]
        print(json.dumps({"name": "kubernetes", "version": server}), flush=True)
        for measure in (start_and_cost, recovery):
            measure(up, base)


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as reason:
        print(json.dumps({"name": "kubernetes", "skipped": str(reason)}))
