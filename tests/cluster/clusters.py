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

from contract.schema.cluster import (
    ClusterConfig,
    KubernetesConfig,
    PodConfig,
    ServingConfig,
    VolumeConfig,
)

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "k8s"
HOST_IMAGE = "localhost/host:1"
# Elsewhere pods cannot run this machine's Python. Read before tests hide it.
TEST_IMAGE = os.environ.get("SLIPWAY_TEST_IMAGE", "")
PYTHON = "/usr/bin/python3" if SHARED.is_dir() else "python3"  # in pods, for scripts of a few lines


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

    @property
    def _kubectl(self) -> list[str]:
        where = ["--kubeconfig", self.kubeconfig, "--context", self.context]
        return ["kubectl", *where, "-n", self.namespace]

    def kubectl(self, *words: str, text: str | None = None, is_checked: bool = True) -> str:
        command = [*self._kubectl, "--request-timeout=120s", *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if is_checked and done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def get(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        selector = ["-l", labels] if labels else []
        return list(json.loads(self.kubectl("get", kind, *selector, "-o", "json"))["items"])

    def pods(self, labels: str = "") -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in self.get("pods", labels)}

    def watch_pods(self, labels: str, line: str) -> "subprocess.Popen[str]":
        """Start to print a line, by a JSONPath template, for each change of a pod."""
        command = [*self._kubectl, "get", "pods", "-l", labels, "--watch", "-o", f"jsonpath={line}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

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

    def kill_container(self, pod: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send what a pod runs a signal from outside: SIGKILL, as the kernel's memory killer would;
        SIGSTOP, so that it hangs.
        """
        if not SHARED.is_dir():  # all but itself and the pause process, whose namespace they share
            kill = f"import os; os.kill(-1, {int(sign)})"
            self.kubectl("exec", pod, "--", PYTHON, "-c", kill)
            return
        uid = self.pods()[pod]["metadata"]["uid"]
        for cgroup in Path("/sys/fs/cgroup/pids").glob(f"**/pod{uid}/*/cgroup.procs"):
            for pid in cgroup.read_text().split():
                if b"pause" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), sign)


def evict(cluster: TestCluster, pod: str) -> None:
    """Evict a pod as `kubectl drain` does; clusters before 1.22 know the older version only."""
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    for version in ("v1", "v1beta1"):
        body = {"apiVersion": f"policy/{version}", "kind": "Eviction", "metadata": {"name": pod}}
        words = ("create", "--raw", path, "-f", "-")
        if cluster.kubectl(*words, text=json.dumps(body), is_checked=False):
            return
    raise RuntimeError("not evicted")


def kustomized(name: str) -> list[dict[str, Any]]:
    """Return the objects of a folder of docker/kubernetes, as `kubectl apply -k` sends them."""
    command = ["kubectl", "kustomize", str(ROOT / "docker" / "kubernetes" / name)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return for_old_clusters(list(yaml.safe_load_all(made)))


def for_old_clusters(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return budgets as clusters before 1.21 have them, which those of the tests are.

    They know no policy for unhealthy pods, either.
    """
    for body in bodies:
        if body["kind"] == "PodDisruptionBudget":
            body["apiVersion"] = "policy/v1beta1"
            del body["spec"]["unhealthyPodEvictionPolicy"]
    return bodies


def _command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def let_pods_in(folder: Path) -> None:
    """Let users who are not root come to a folder, whose parents pytest keeps to itself."""
    for one in (folder, *folder.parents[:3]):
        one.chmod(one.stat().st_mode | 0o055)


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
    has_kind = bool(shutil.which("kind") and shutil.which("docker"))
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not has_kind and not kubeconfig:
        pytest.skip(
            f"no cluster: {SHARED} is not there, kind and docker are not installed, and KUBECONFIG "
            "is not set"
        )
    if TEST_IMAGE in ("", "build"):
        pytest.skip(
            "no image: SLIPWAY_TEST_IMAGE must name one of the components (docs/kubernetes)"
        )
    if has_kind:
        return _kind_clusters(names)
    command = ["kubectl", "--kubeconfig", kubeconfig, "config", "current-context"]
    context = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return kubeconfig, dict.fromkeys(names, context)


def _kind_clusters(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Start or find a kind cluster for each, with the image and this machine's /tmp in it."""
    kubeconfig = str(Path.home() / ".kube" / "slipway-kind")
    node = {"role": "control-plane", "extraMounts": [{"hostPath": "/tmp", "containerPath": "/tmp"}]}
    config = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}
    for name in names:
        create = ["kind", "create", "cluster", "--name", name, "--kubeconfig", kubeconfig]
        text = yaml.safe_dump(config)
        subprocess.run([*create, "--config=-"], input=text, text=True, check=False)
        load = ["kind", "load", "docker-image", TEST_IMAGE, "--name", name]
        subprocess.run(load, check=True, capture_output=True)
    return kubeconfig, {name: f"kind-{name}" for name in names}


def host_pods(up: dict[str, TestCluster], storage: Path, **changes: Any) -> KubernetesConfig:
    """Return a config whose pods run this machine's own Python through host paths: no image.

    Where clusters are not of this machine, they run SLIPWAY_TEST_IMAGE.
    """
    is_here = SHARED.is_dir()
    shared = VolumeConfig(name="storage", mount_path=str(storage), host_path=str(storage))
    given: dict[str, Any] = {
        "clusters": {name: cluster.settings for name, cluster in up.items()},
        "default_cluster": next(iter(up)),
        "volumes": (*_host_volumes(), shared) if is_here else (shared,),
        "serving": ServingConfig(min_replicas=1),  # a node of two cores has no room for more
        "pod": PodConfig(
            image=HOST_IMAGE if is_here else TEST_IMAGE,
            image_pull_policy="Never" if is_here else "IfNotPresent",
            python=sys.executable if is_here else "python",
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
            template=_template(is_here),
        ),
    }
    return KubernetesConfig(**{**given, **changes})


def _template(is_here: bool) -> dict[str, Any]:
    container: dict[str, Any] = {"volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}
    if is_here:
        container["workingDir"] = str(ROOT)
    memory = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    spec: dict[str, Any] = {"containers": [container], "volumes": [memory]}
    if is_here:  # this machine's Python is not everybody's
        spec["securityContext"] = {"runAsNonRoot": False}
    return {"spec": spec | process_namespace()}


def process_namespace() -> dict[str, bool]:
    """Return what a pod's spec needs more, for `kill_container` to kill what runs in it.

    Where that comes in by `exec` it cannot kill a process 1.
    """
    return {} if SHARED.is_dir() else {"shareProcessNamespace": True}


def _host_volumes() -> Iterator[VolumeConfig]:
    interpreter = Path(sys.base_prefix).resolve()
    read_only = {"usr": "/usr", "ssl": "/etc/ssl", "alternatives": "/etc/alternatives"}
    read_only |= {"ld-cache": "/etc/ld.so.cache", "venv": sys.prefix, "project": str(ROOT)}
    if not interpreter.is_relative_to("/usr"):
        read_only["python"] = str(interpreter)
    for name, path in read_only.items():
        yield VolumeConfig(name=name, mount_path=path, host_path=path, is_read_only=True)
