"""What a triggerer pays for many pipelines whose jobs run at once, and what breaks next.

Each pipeline is a job of a chief and workers, driven as Airflow's triggerer drives it: one event
loop for all. The API server is the tests' stand-in, in a process of its own, so the figures are
ours alone: CPU, calls, memory, and how late the loop comes to other triggers. Prints JSON lines.

    python tests/benchmarks/bench_platform.py [--pipelines 25 50 100 200] [--pods 10] [--seconds 60]
"""

import argparse
import asyncio
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_cluster import Pod, SmallCluster
from support import ROOT, emit

from contract.clients.cluster import Cluster
from contract.schema.cluster import ClusterConfig, JobConfig, KubernetesConfig, PodConfig
from launching.cluster.claim import Claim
from launching.cluster.manifests import TASK
from launching.cluster.pods import SERVICES, PodJob
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

LINE_SECONDS = 1.0  # between two lines of a pod's log
_LAG_SECONDS = 0.05  # between two looks at how late the loop is


def serve(folder: Path, seconds: float) -> None:
    """Be the API server until told to end; then print the calls. Pods log a line a second."""

    async def talks(cluster: SmallCluster, made: Pod) -> None:
        cluster.run(made)
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            cluster.say(made, f"2026-01-01 12:00:00 INFO step {number}: loss 0.1234, 1.2 steps/s")
            await asyncio.sleep(LINE_SECONDS)
        cluster.end(made)

    with SmallCluster(folder, talks) as cluster:
        print(cluster.settings().model_dump_json(), flush=True)
        sys.stdin.readline()
        print(json.dumps({**cluster.calls, "most logs": cluster.most_logs}), flush=True)


@contextmanager
def server(seconds: float) -> Iterator[tuple[ClusterConfig, "subprocess.Popen[str]"]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder, "--seconds", str(seconds)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            try:
                yield ClusterConfig.model_validate_json(process.stdout.readline()), process
            finally:
                process.kill()


async def drive(settings: ClusterConfig, name: str, pods: int, said: list[int]) -> JobEnd:
    """Drive one pipeline's job, as a trigger does."""
    job = JobSpec(
        name=name,
        step="train",
        command=("true",),
        replicas={"chief": 1, "worker": pods - 1},
        labels={TASK: name},
        settings=JobConfig(grace_seconds=0, gang_seconds=600.0),
    )
    kubernetes = KubernetesConfig(
        clusters={"one": settings}, default_cluster="one", pod=PodConfig(image="i:1")
    )
    async with Cluster(settings, patience_seconds=600.0) as cluster:
        claim = Claim(cluster, SERVICES, {TASK: name}, 0, 1)
        return await PodJob(cluster, job, kubernetes, claim, lambda *_: said.append(1)).run()


async def lateness(lags: list[float]) -> None:
    """Note how late the loop wakes who wants to be woken."""
    while True:
        due = time.monotonic() + _LAG_SECONDS
        await asyncio.sleep(_LAG_SECONDS)
        lags.append(time.monotonic() - due)


async def drive_all(settings: ClusterConfig, pipelines: int, pods: int) -> dict[str, float]:
    said: list[int] = []
    lags: list[float] = []
    began, cpu = time.monotonic(), time.process_time()
    looking = asyncio.create_task(lateness(lags))
    jobs = (drive(settings, f"pipeline-{n}", pods, said) for n in range(pipelines))
    ends = await asyncio.gather(*jobs)
    looking.cancel()
    lags.sort()
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "good": float(sum(end.is_good for end in ends)),
        "lines": float(len(said)),
        "late_99th_seconds": lags[int(0.99 * len(lags))],
        "late_most_seconds": lags[-1],
    }


def measure(pipelines: int, pods: int, seconds: float) -> None:
    """Drive so many pipelines in a process of their own, and print the figures."""
    with server(seconds) as (settings, api):
        words = [settings.model_dump_json(), str(pipelines), str(pods)]
        command = [sys.executable, __file__, "--drive", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert api.stdin is not None
        assert api.stdout is not None
        api.stdin.write("\n")
        api.stdin.flush()
        calls = json.loads(api.stdout.readline())
    found = json.loads(done.stdout.splitlines()[-1])
    made = sum(count for name, count in calls.items() if name != "most logs")
    what = f"{pipelines} pipelines of {pods} pods: "
    per_pod = found["cpu_seconds"] / (pipelines * pods)
    emit(f"{what}CPU of the driving process", found["cpu_seconds"], None, None, "CPU-s", **found)
    emit(f"{what}CPU of a pod that runs {seconds:g} s", per_pod * 1000, None, None, "CPU-ms")
    emit(f"{what}calls of the API", made, None, None, "calls", **calls)
    emit(
        f"{what}calls of a pod, from nothing to removal", made / (pipelines * pods), None, None, ""
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipelines", type=int, nargs="*", default=[25, 50, 100, 200])
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each pod runs")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    if given.serve:
        serve(given.serve, given.seconds)
    elif given.drive:
        settings = ClusterConfig.model_validate_json(given.drive[0])
        found = asyncio.run(drive_all(settings, int(given.drive[1]), int(given.drive[2])))
        print(json.dumps(found))
    else:
        for pipelines in given.pipelines:
            measure(pipelines, given.pods, given.seconds)


if __name__ == "__main__":
    main()
