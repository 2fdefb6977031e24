"""Starting real clusters and looking at them, with kubectl as an outsider would."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.schema.cluster import ClusterConfig, KubernetesConfig, PodConfig, VolumeConfig

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "k8s"
HOST_IMAGE = "localhost/host:1"


@dataclass(frozen=True)
class TestCluster:
    """One namespace of one cluster."""

    __test__ = False
    context: str
    kubeconfig: str
    namespace: str

    @property
    def settings(self) -> ClusterConfig:
        return ClusterConfig(
            context=self.context, kubeconfig=self.kubeconfig, namespace=self.namespace
        )

    def kubectl(self, *words: str, text: str | None = None, is_checked: bool = True) -> str:
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "--context", self.context]
        command += ["-n", self.namespace, "--request-timeout=30s", *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if is_checked and done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def get(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        selector = ["-l", labels] if labels else []
        return list(json.loads(self.kubectl("get", kind, *selector, "-o", "json"))["items"])

    def pods(self, labels: str = "") -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in self.get("pods", labels)}

    def images(self) -> set[str]:
        """Return the tags of the images that the nodes hold."""
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return {
            tag for n in nodes for i in n["status"].get("images", ()) for tag in i["names"] or ()
        }

    def apply(self, body: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text=json.dumps(body))

    @contextlib.contextmanager
    def api_server_down(self) -> Iterator[None]:
        """Stop the cluster's API server, as a frozen or lost machine would, and let it go on."""
        if not SHARED.is_dir():
            pytest.skip("only the clusters of shared/k8s let their API server be stopped")
        marker = f"/{self.context}/pki/apiserver.crt"
        pids = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if b"kube-apiserver" in (line := _command_line(path)) and marker.encode() in line
        ]
        assert len(pids) == 1, pids
        os.kill(pids[0], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pids[0], signal.SIGCONT)

    def kill_container(self, pod: str, signal: str = "KILL") -> None:
        """Kill -9 what a pod runs, from outside, as the kernel's memory killer would."""
        uid = self.pods()[pod]["metadata"]["uid"]
        for cgroup in Path("/sys/fs/cgroup/pids").glob(f"**/pod{uid}/*/cgroup.procs"):
            for pid in cgroup.read_text().split():
                if b"pause" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    subprocess.run(["kill", f"-{signal}", pid], check=True)


def kustomized(name: str) -> list[dict[str, Any]]:
    """Return the objects of a folder of docker/kubernetes, as `kubectl apply -k` sends them."""
    command = ["kubectl", "kustomize", str(ROOT / "docker" / "kubernetes" / name)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return list(yaml.safe_load_all(made))


def _command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], Any], seconds: float, what: str = "it") -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.2)
    return found


@contextlib.contextmanager
def clusters_up(names: Sequence[str]) -> Iterator[dict[str, TestCluster]]:
    """Start or find clusters, and yield each with a namespace of its own; remove it afterwards."""
    namespace = f"test-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as stack:
        if SHARED.is_dir():
            kubeconfig = stack.enter_context(_shared_clusters(names))
            contexts = {name: name for name in names}
        else:
            kubeconfig, contexts = _users_clusters(names)
        found = {n: TestCluster(contexts[n], kubeconfig, namespace) for n in names}
        for cluster in {c.context: c for c in found.values()}.values():
            cluster.kubectl("create", "namespace", namespace)
            stack.callback(cluster.kubectl, "delete", "namespace", namespace, "--wait=false")
        yield found


@contextlib.contextmanager
def _shared_clusters(names: Sequence[str]) -> Iterator[str]:
    was_up = {name: _is_up(name) for name in names}
    down = [name for name in names if not was_up[name]]
    _remove(down)  # what a killed test left there would come back, and take the room of others
    environment = {**os.environ, "GPUS": "2"}
    starting = [
        subprocess.Popen([SHARED / "up", name], env=environment, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    said = [process.communicate(timeout=300)[0] for process in starting]
    try:
        assert all(process.returncode == 0 for process in starting), "a cluster did not start"
        yield said[0].strip().removeprefix("export KUBECONFIG=")
    finally:
        _remove(down)


def _remove(names: Sequence[str]) -> None:
    if names:
        subprocess.run([SHARED / "down", *names], check=True, capture_output=True)


def _is_up(name: str) -> bool:
    done = subprocess.run([SHARED / "status", name], capture_output=True, check=False)
    return done.returncode == 0


def _users_clusters(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return kubeconfig and contexts of kind, or of KUBECONFIG; two roles may share one cluster."""
    if shutil.which("kind") and shutil.which("docker"):
        kubeconfig = str(Path.home() / ".kube" / "slipway-kind")
        for name in names:
            command = ["kind", "create", "cluster", "--name", name, "--kubeconfig", kubeconfig]
            subprocess.run(command, check=False, capture_output=True)
        return kubeconfig, {name: f"kind-{name}" for name in names}
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig:
        pytest.skip(
            f"no cluster: {SHARED} is not there, kind and docker are not installed, and KUBECONFIG "
            "is not set"
        )
    command = ["kubectl", "--kubeconfig", kubeconfig, "config", "current-context"]
    context = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return kubeconfig, dict.fromkeys(names, context)


def host_pods(up: dict[str, TestCluster], storage: Path, **changes: Any) -> KubernetesConfig:
    """Return a config whose pods run this machine's own Python through host paths: no image."""
    given: dict[str, Any] = {
        "clusters": {name: cluster.settings for name, cluster in up.items()},
        "default_cluster": next(iter(up)),
        "volumes": tuple(_host_volumes(storage)),
        "pod": PodConfig(
            image=HOST_IMAGE,
            image_pull_policy="Never",
            python=sys.executable,
            cpu="200m",  # with less, whatever else runs on the machine would starve them
            memory="64Mi",
            memory_limit="3Gi",
            environment={
                "HOME": "/tmp",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "2",
            },
            template={
                "spec": {
                    "containers": [
                        {
                            "workingDir": str(ROOT),
                            "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
                        }
                    ],
                    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
                }
            },
        ),
    }
    return KubernetesConfig(**{**given, **changes})


def _host_volumes(storage: Path) -> Iterator[VolumeConfig]:
    interpreter = Path(sys.base_prefix).resolve()
    read_only = {"usr": "/usr", "ssl": "/etc/ssl", "alternatives": "/etc/alternatives"}
    read_only |= {"ld-cache": "/etc/ld.so.cache", "venv": sys.prefix, "project": str(ROOT)}
    if not interpreter.is_relative_to("/usr"):
        read_only["python"] = str(interpreter)
    for name, path in read_only.items():
        yield VolumeConfig(name=name, mount_path=path, host_path=path, is_read_only=True)
    yield VolumeConfig(name="storage", mount_path=str(storage), host_path=str(storage))
