"""Parameter servers, all-reduce and MPI side by side: one model, one cluster, two workers.

And the jobs of plain pods as processes of this machine. Needs a cluster (see
tests/cluster/clusters.py), and Open MPI on this machine for MPI. Prints JSON lines; Kubernetes'
version is in the first. `start_seconds` is from the start of the job to its first step,
`lost_worker_seconds` (or `lost_ps_seconds`) what the death of one adds to the whole. CPU and
network are sums over the job's pods, the network counted once at each end.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

import pytest
from clusters import ROOT, SHARED, TestCluster, clusters_up, wait_for
from conftest import CRDS
from kubeflow_stand_in import GROUP, KubeflowStandIn
from training_scene import SETTINGS, TrainingScene, training_scene

from contract.layout import RunLayout
from contract.records.training import CheckpointManifest
from contract.schema.cluster import JobKind
from launching.cluster.manifests import TASK
from launching.job_spec import JobSpec

STEPS, EVERY = 600, 100
# 0.33 million weights: 1.3 MB of gradients a step
MODEL = {"architecture": "dense", "hidden_units": [512, 512], "dropout": 0.0}
_SAMPLE_SECONDS = 0.5


@dataclass
class Usage:
    """What the pods of a job have used so far, by container."""

    cluster: TestCluster
    labels: str
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    network_bytes: dict[str, int] = field(default_factory=dict)
    is_over: bool = False

    def sample(self) -> None:
        """Look again and again until `is_over`; counters only grow, so the last look counts."""
        while not self.is_over:
            for pod in self.cluster.pods(self.labels).values():
                self._look(pod["metadata"]["uid"])
            time.sleep(_SAMPLE_SECONDS)

    def _look(self, uid: str) -> None:
        for folder in Path("/sys/fs/cgroup/cpuacct").glob(f"**/pod{uid}"):
            try:
                self.cpu_seconds[uid] = int((folder / "cpuacct.usage").read_text()) / 1e9
                pids = [p for f in folder.glob("*/cgroup.procs") for p in f.read_text().split()]
                lines = Path(f"/proc/{pids[0]}/net/dev").read_text().splitlines()
            except (OSError, IndexError):  # it has just ended
                continue
            words = next(line.split() for line in lines if "eth0" in line)
            self.network_bytes[uid] = int(words[1]) + int(words[9])


@dataclass(frozen=True)
class Case:
    """One way to train with two workers."""

    kind: JobKind
    strategy: str
    victims: tuple[str, ...]
    controlled: str = ""  # the kind of Kubeflow's object, if any

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.strategy}".replace("_", "-")


CASES = (
    Case("pods", "parameter_server", ("worker-0-0", "ps-0-0")),
    Case("pods", "multi_worker", ("worker-0-0",)),
    Case("tfjob", "multi_worker", ("worker-0",), "TFJob"),
    Case("mpijob", "mpi", ("worker-1",), "MPIJob"),
)


def overrides(case: Case) -> dict[str, Any]:
    return {
        "train.steps": STEPS,
        "train.checkpoint_every_steps": EVERY,
        "train.strategy": case.strategy,
        "train.workers": 2,
        "train.hyperparameters": MODEL,
    }


def run(scene: TrainingScene, case: Case, name: str, victim: str = "") -> dict[str, float]:
    """Train once, with the death of one pod on the way if it is named; return the figures."""
    layout = scene.run_of(name, **overrides(case))
    cluster = scene.clusters["train"]
    label = TASK if case.kind == "pods" else f"{GROUP}/job-name"
    usage = Usage(cluster, f"{label}={name if case.kind == 'pods' else f'digits-{name}'}")
    sampling = threading.Thread(target=usage.sample, daemon=True)
    sampling.start()
    began = time.time()
    settings = SETTINGS.model_copy(update={"kind": case.kind, "grace_seconds": 1})
    killer = _killer(layout, cluster, victim) if victim else None
    end, said = scene.train(layout, killer, settings)
    seconds = time.time() - began
    usage.is_over = True
    sampling.join()
    if not end.is_good:
        raise RuntimeError(f"{name}: {end}: {said[-2000:]}")
    return _times(layout, began, seconds) | {
        "cpu_ms_a_step": 1000 * sum(usage.cpu_seconds.values()) / STEPS,
        "network_kb_a_step": sum(usage.network_bytes.values()) / 2 / STEPS / 1000,
    }


def in_processes(scene: TrainingScene, case: Case) -> dict[str, float]:
    """Train the same as processes of this machine, and return the figures."""
    layout = scene.run_of(f"{case.name}-processes", **overrides(case))
    job = scene.job(layout, SETTINGS, sys.executable)
    command = [sys.executable, "-m", "launching.processes.role_processes", job.model_dump_json()]
    began = time.time()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return _times(layout, began, time.time() - began)


def _times(layout: RunLayout, began: float, seconds: float) -> dict[str, float]:
    first, last = (_written(layout, step) for step in (EVERY, STEPS))
    step_seconds = (last - first) / (STEPS - EVERY)
    start = first - EVERY * step_seconds - began
    return {"seconds": seconds, "step_ms": 1000 * step_seconds, "start_seconds": start}


def _written(layout: RunLayout, step: int) -> float:
    return CheckpointManifest.read(layout.checkpoint_manifest(step)).written_at.timestamp()


def _killer(layout: RunLayout, cluster: TestCluster, victim: str) -> Callable[[JobSpec], None]:
    def kill(job: JobSpec) -> None:
        wait_for(lambda: layout.checkpoint_manifest(2 * EVERY).exists(), 300)
        cluster.kill_container(f"{job.name}-{victim}")

    return kill


def measure(scene: TrainingScene, case: Case) -> None:
    figures = run(scene, case, f"{case.name}-calm")
    calm = figures["seconds"]
    for victim in case.victims:
        hurt = run(scene, case, f"{case.name}-{victim}", victim)
        figures[f"lost_{victim.split('-')[0]}_seconds"] = hurt["seconds"] - calm
    emit_all(case.name, figures)
    if not case.controlled:
        emit_all(f"{case.strategy}-in-processes", in_processes(scene, case))


def emit_all(name: str, figures: dict[str, float]) -> None:
    rounded = {key: round(value, 2) for key, value in figures.items()}
    print(json.dumps({"name": name, **rounded}), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, clusters_up(("train",)) as up:
        version: dict[str, Any] = json.loads(up["train"].kubectl("version", "-o", "json"))
        server = version["serverVersion"]["gitVersion"]
        print(json.dumps({"name": "kubernetes", "version": server}), flush=True)
        files = [str(SHARED / "crds" / f"kubeflow.org_{name}.yaml") for name in CRDS]
        subprocess.run([SHARED / "install-crds", "train", *files], check=True, capture_output=True)
        scene = training_scene(up, Path(folder))
        for case in CASES:
            if case.strategy == "mpi" and shutil.which("mpirun") is None:
                print(json.dumps({"name": case.name, "skipped": "no mpirun on this machine"}))
                continue
            if not case.controlled:
                measure(scene, case)
                continue
            with KubeflowStandIn(up["train"], case.controlled, scene.writable):
                measure(scene, case)


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as reason:
        print(json.dumps({"name": "jobs_on_kubernetes", "skipped": str(reason)}))
