"""Attacks from inside pods that Slipway makes: on API, machine, storage and secrets.

Not on the network: these clusters have no network that enforces policies. What the policies say is
checked by `tests/unit/docker/test_kubernetes_security.py`; that an API server takes them, by
`test_manifests.py`.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import PYTHON, ROOT, TestCluster, host_pods, wait_for

from contract.command import StepCommand
from contract.pod_storage import make_folders, step_access
from contract.schema.cluster import KubernetesConfig, PodConfig
from operators.component import PipelineRef
from operators.pod_component import ComponentPodOperator
from operators.task_identity import TaskIdentity
from serving.agent.hosts.host import ServerSpec
from serving.agent.hosts.server_objects import deployment

SHIPPED = ROOT / "configs" / "runtimes" / "kubernetes.yaml"
TOKEN = "the agent's token"
LOGIN = {"MLFLOW_TRACKING_USERNAME": "slipway", "MLFLOW_TRACKING_PASSWORD": "secret"}
# Run in the pod by an interpreter without Slipway; says what it got by one line of JSON.
ATTACK = """
import ctypes, json, os, ssl, sys, urllib.error, urllib.request
folders = json.loads(sys.argv[1])
found = {}

def tried(call):
    try:
        return call()
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return error.strerror or str(error)

def write(folder):
    path = os.path.join(folder, "attack")
    with open(path, "w") as file:
        file.write("x")
    os.remove(path)
    return "written"

def call(path):
    url = "https://kubernetes.default.svc" + path
    context = ssl._create_unverified_context()
    return urllib.request.urlopen(url, context=context, timeout=60).status

found["writes"] = {name: tried(lambda: write(path)) for name, path in folders.items()}
found["sees"] = {name: os.path.isdir(path) for name, path in folders.items()}
found["token"] = os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
paths = ("/api/v1/secrets", "/api/v1/pods", "/apis/apps/v1/deployments")
found["api"] = {path: tried(lambda: call(path)) for path in paths}
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
found["status"] = {k: status[k].strip() for k in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
libc = ctypes.CDLL(None, use_errno=True)
found["mount"] = libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
found["unshare"] = libc.unshare(0x10000000)
found["chown"] = tried(lambda: os.chown("/tmp", 1, 1))
agent = "/etc/slipway/agent/token"
found["agent"] = tried(lambda: open(agent).read())
found["variables"] = sorted(k for k in os.environ if "TOKEN" in k or "PASSWORD" in k)
print(json.dumps(found), flush=True)
"""
# What a package does that is built where it is installed: it tells what it sees.
SETUP = """
import json, os
seen = {"variables": sorted(os.environ), "files": os.listdir("/etc/slipway/agent")
        if os.path.isdir("/etc/slipway/agent") else []}
open("/tmp/seen.json", "w").write(json.dumps(seen))
from setuptools import setup
setup(name="boots", version="1.0", py_modules=["boots"])
"""
SHOW = """
import boots, json
print(json.dumps({"at": boots.__file__, **json.load(open("/tmp/seen.json"))}))
"""


@pytest.fixture(scope="module")
def kubernetes(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> KubernetesConfig:
    """This machine's Python with what the shipped runtime file gives to deploying steps."""
    cluster, folder = clusters["eval"], tmp_path_factory.mktemp("attacked")
    steps = yaml.safe_load(SHIPPED.read_text())["kubernetes"]["steps"]
    for name, secret in (("slipway-agent", {"token": TOKEN}), ("slipway-tracking", LOGIN)):
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        cluster.apply(body | {"stringData": secret})
    made = host_pods({"eval": cluster}, folder)
    offline = {**made.pod.environment, "UV_NO_BUILD_ISOLATION": "1"}  # setuptools is there already
    given = {"environment_secrets": ("slipway-tracking",), "environment": offline}
    pod = made.pod.model_copy(update=given)
    kept = {name: PodConfig(**steps[name]) for name in ("canary", "promote")}
    kept["serve"] = PodConfig(environment_secrets=())
    return made.model_copy(update={"pod": pod, "steps": kept})


@pytest.fixture(scope="module")
def found(
    kubernetes: KubernetesConfig, clusters: dict[str, TestCluster]
) -> dict[str, dict[str, Any]]:
    """What attackers got in a pod of `transform`, one of `canary` and one of a model server."""
    cluster = clusters["eval"]
    root = Path(next(v.mount_path for v in kubernetes.volumes if v.name == "storage"))
    folders = _folders(root)
    for path in folders.values():
        path.mkdir(parents=True)
    bodies = {step: _step(step, kubernetes, root) for step in ("transform", "canary")}
    bodies["serve"] = _server(kubernetes, root)
    bodies["packages"] = _step("transform", kubernetes, root, _frozen_with_a_package(root))
    command = [PYTHON, "-c", ATTACK, json.dumps({name: str(p) for name, p in folders.items()})]
    for name, body in bodies.items():
        body["metadata"] = {"name": f"attack-{name}", "labels": {"attack": name}}
        body["spec"]["restartPolicy"] = "Never"
        container = body["spec"]["containers"][0]
        for key in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
            container.pop(key, None)
        if name == "packages":  # the step's own command, with another program in place of the step
            until = container["command"].index("--") + 2
            container["command"] = [*container["command"][:until], "-c", SHOW]
        else:
            container["command"] = command
        cluster.apply({"apiVersion": "v1", "kind": "Pod"} | body)
    return {name: _said(cluster, f"attack-{name}") for name in bodies}


def _folders(root: Path) -> dict[str, Path]:
    own, other = root / "digits", root / "census"
    return {
        "run": own / "runs" / "run-1",
        "package": own / "versions" / "1",
        "plans": own / "serving",
        "log": own / "serving" / "predictions" / "1",
        "other run": other / "runs" / "run-1",
        "other package": other / "versions" / "1",
    }


def _frozen_with_a_package(root: Path) -> str:
    """Freeze a run with a package that is built when it is installed; return the run's name."""
    wheels, frozen = root / "wheels", PipelineRef("digits", str(root)).run("run-2").frozen_pipeline
    for folder in (wheels, frozen):
        folder.mkdir(parents=True)
    with tarfile.open(wheels / "boots-1.0.tar.gz", "w:gz") as archive:
        information = "Metadata-Version: 2.1\nName: boots\nVersion: 1.0\n"
        for name, text in {"setup.py": SETUP, "boots.py": "", "PKG-INFO": information}.items():
            member = tarfile.TarInfo(f"boots-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    lines = ("--no-index", f"--find-links {wheels}", "boots", "--no-binary boots")
    (frozen / "requirements.txt").write_text("\n".join(lines))
    return "run-2"


def _step(
    step: str, kubernetes: KubernetesConfig, root: Path, run: str = "run-1"
) -> dict[str, Any]:
    pipeline = PipelineRef("digits", str(root))
    operator = ComponentPodOperator(task_id=step, pipeline=pipeline, kubernetes=kubernetes)
    make_folders(step_access(pipeline.run(run).of_pipeline, step))
    identity = TaskIdentity("digits", run, step, generation=0, attempt=1)
    return operator.manifest(identity, StepCommand(step, "digits", run, str(root)))


def _server(kubernetes: KubernetesConfig, root: Path) -> dict[str, Any]:
    folders = _folders(root)
    spec = ServerSpec("digits", 1, folders["package"], folders["log"], drain_seconds=1.0)
    template: dict[str, Any] = deployment(spec, kubernetes)["spec"]["template"]
    return template


def _said(cluster: TestCluster, pod: str) -> dict[str, Any]:
    wait_for(lambda: cluster.pods()[pod]["status"]["phase"] in ("Succeeded", "Failed"), 300, pod)
    said = cluster.kubectl("logs", pod)
    assert said.startswith("{"), said
    return dict(json.loads(said))


@pytest.mark.parametrize("pod", ["transform", "canary", "serve"])
def test_no_pod_may_call_the_api(found: dict[str, dict[str, Any]], pod: str) -> None:
    assert found[pod]["token"] is False
    assert set(found[pod]["api"].values()) <= {401, 403}  # as a caller without a name


@pytest.mark.parametrize("pod", ["transform", "canary", "serve"])
def test_a_pod_has_no_powers_over_its_machine(found: dict[str, dict[str, Any]], pod: str) -> None:
    """Although it is root here, which this machine's Python needs and images do not."""
    none = "0" * 16
    wanted = {"CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"}
    assert found[pod]["status"] == wanted
    assert (found[pod]["mount"], found[pod]["unshare"]) == (-1, -1)
    assert found[pod]["chown"] == "Operation not permitted"


def test_a_pod_writes_its_own_pipelines_runs_and_no_package_nor_plan(
    found: dict[str, dict[str, Any]],
) -> None:
    refused, may = "Read-only file system", "written"
    others = {"other run": refused, "other package": refused}
    step = {"run": may, "package": refused, "plans": refused, "log": refused, **others}
    assert found["transform"]["writes"] == step
    assert found["canary"]["writes"] == {**step, "plans": may, "log": may}


def test_a_server_sees_nothing_but_its_package_and_its_log(
    found: dict[str, dict[str, Any]],
) -> None:
    seen = {name for name, is_there in found["serve"]["sees"].items() if is_there}
    assert seen == {"package", "log", "plans"}  # the last as the log's empty parent
    writes = found["serve"]["writes"]
    assert (writes["package"], writes["log"]) == ("Read-only file system", "written")


def test_each_pod_holds_the_secrets_that_it_needs(found: dict[str, dict[str, Any]]) -> None:
    agents = {pod: got["agent"] for pod, got in found.items() if "agent" in got}
    nothing = "No such file or directory"
    assert agents == {"transform": nothing, "canary": TOKEN, "serve": nothing}
    assert found["serve"]["variables"] == []
    assert found["transform"]["variables"] == ["MLFLOW_TRACKING_PASSWORD"]
    assert "SLIPWAY_AGENT_TOKEN_FILE" in found["canary"]["variables"]


def test_a_pipelines_packages_are_installed_in_the_pod_and_see_no_secret(
    found: dict[str, dict[str, Any]], kubernetes: KubernetesConfig
) -> None:
    """In the very pod whose step then has MLflow's password."""
    installed = found["packages"]
    assert installed["at"].startswith("/tmp/slipway-")
    assert not [name for name in installed["variables"] if "PASSWORD" in name or "TOKEN" in name]
    assert "HOME" in installed["variables"]
    root = Path(next(v.mount_path for v in kubernetes.volumes if v.name == "storage"))
    assert not (root / ".slipway").exists()  # nothing was installed for others, or by Airflow
