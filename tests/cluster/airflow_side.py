"""A real Airflow whose components are pods of the test clusters."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml
from airflow_stack import AirflowStack, running_airflow
from clusters import ROOT, TestCluster, host_pods, let_pods_in, process_namespace

SHIPPED = ROOT / "configs" / "runtimes" / "kubernetes.yaml"
_POD = r'{.metadata.name} {.metadata.labels.task_id} {.status.phase}{"\n"}'  # JSONPath
# A long training that leaves the machine's cores to others.
_SLOW = """

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)


def callbacks(hyperparameters, steps):
    return [Slow()]
"""


@contextlib.contextmanager
def airflow_on(
    clusters: dict[str, TestCluster], folder: Path, image: str | None = None, /, **changes: Any
) -> Iterator[AirflowStack]:
    """Start an Airflow in an empty folder whose storage both clusters mount.

    Args:
        clusters: `train` and `eval`.
        folder: Where everything goes.
        image: The components' image; without one, pods run this machine's Python.
        changes: Of the section `kubernetes` of its runtime file, which is the shipped one but for
            what only a user can know.
    """
    let_pods_in(folder)
    root = folder / "home" / "artifacts"
    before = os.umask(0)  # the pods are not root: what this Airflow makes must be theirs to fill
    root.mkdir(parents=True)
    path = folder / "runtime.yaml"
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    shipped["root"] = str(root)
    shipped["runs"] = {"overrides": ["train", "evaluate", "deploy"]}
    shipped["kubernetes"] |= _kubernetes(clusters, image, root, shipped["kubernetes"]) | changes
    path.write_text(yaml.safe_dump(shipped))
    try:
        with running_airflow(folder, SLIPWAY_RUNTIME=str(path)) as started:
            yield started
    finally:
        os.umask(before)


def _kubernetes(
    clusters: dict[str, TestCluster], image: str | None, root: Path, shipped: dict[str, Any]
) -> dict[str, Any]:
    """Return what differs from the shipped file."""
    host = host_pods(clusters, root).model_dump(mode="json", exclude_unset=True)
    agent = f"http://slipway-agent.{clusters['eval'].namespace}.svc:8600"
    environment = dict(shipped["pod"]["environment"])
    del environment["MLFLOW_TRACKING_URI"]
    steps = {name: shipped["steps"][name] for name in ("canary", "promote")}
    for step in steps.values():
        step["environment"]["SLIPWAY_AGENT_URL"] = agent
    pod = shipped["pod"] | {"service_account": "", "environment": environment}
    pod |= {"cpu": "250m", "memory": "256Mi", "memory_limit": "3Gi"}
    volumes = [{"name": "storage", "mount_path": str(root), "host_path": str(root)}]
    if image is not None:
        pod |= {"image": image, "image_pull_policy": host["pod"]["image_pull_policy"]}
        pod["template"]["spec"] |= process_namespace()
    else:
        pod |= {key: host["pod"][key] for key in ("image", "image_pull_policy", "python")}
        pod["environment"] = environment | host["pod"]["environment"]
        spec = pod["template"]["spec"]
        spec["securityContext"] = {"runAsNonRoot": False}  # this Python is not everybody's
        spec["containers"][0]["workingDir"] = str(ROOT)
        volumes = host["volumes"]
    return {"clusters": host["clusters"], "volumes": volumes, "pod": pod, "steps": steps}


def add_slow(stack: AirflowStack, name: str, **changes: dict[str, Any]) -> None:
    """Make a pipeline on the digits whose steps of training take a twentieth of a second."""
    stack.add(name, **changes)
    model = stack.pipelines / name / "model.py"
    code = model.read_text().replace("import keras\n", "import time\n\nimport keras\n", 1)
    model.write_text(code + _SLOW)


class PodWatch:
    """What the pods of a run did on all clusters; also a short one is not missed.

    Attributes:
        ran: The step and cluster of every pod that ran: `{"train@train", ...}`.
        together: Which of them ran at one moment, for each moment at which that changed.
    """

    def __init__(self, clusters: dict[str, TestCluster], run_id: str) -> None:
        self.ran, self.together = set[str](), list[set[str]]()
        self._running, self._lock = dict[str, str](), threading.Lock()
        labels = f"run_id={run_id}"
        self._watches = {name: c.watch_pods(labels, _POD) for name, c in clusters.items()}
        self._readers = [threading.Thread(target=self._read, args=(n,)) for n in clusters]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches.values():
            watch.terminate()
            watch.wait()
        for reader in self._readers:
            reader.join()

    @property
    def is_watching(self) -> bool:
        """Whether nothing has been missed: a watch that was refused or lost has ended."""
        return all(watch.poll() is None for watch in self._watches.values())

    def _read(self, cluster: str) -> None:
        lines = self._watches[cluster].stdout
        assert lines is not None
        for line in lines:
            pod, step, phase = line.split()
            with self._lock:
                self._running.pop(pod, None)
                if phase == "Running":
                    self._running[pod] = f"{step}@{cluster}"
                if phase in ("Running", "Succeeded"):
                    self.ran.add(f"{step}@{cluster}")
                self.together.append(set(self._running.values()))


def pods_of(clusters: dict[str, TestCluster], run_id: str) -> dict[str, str]:
    """Return the step and cluster of every pod of a run: `{"train@train": "Running", ...}`."""
    return {
        f"{pod['metadata']['labels']['task_id']}@{name}": pod["status"]["phase"]
        for name, cluster in clusters.items()
        for pod in cluster.pods(f"run_id={run_id}").values()
    }
