"""What pods may do in a cluster: all that we ship, and what we generate by the shipped files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.command import StepCommand
from contract.loader import load_runtime
from contract.schema.cluster import KubernetesConfig
from contract.schema.training import TrainConfig
from contract.steps import STEPS
from launching.cluster.kubeflow import kubeflow_job
from launching.cluster.manifests import replica_pod, task_labels
from launching.job_spec import JobSpec, evaluation_job, training_job
from operators.component import PipelineRef
from operators.pod_component import ComponentPodOperator
from operators.task_identity import TaskIdentity
from serving.agent.hosts.host import ServerSpec
from serving.agent.hosts.server_objects import deployment

FOLDER = Path(__file__).resolve().parents[3] / "docker" / "kubernetes"
ROOT = "/slipway/artifacts"
PIPELINE = f"{ROOT}/digits"
JOBS = ("train", "evaluate")
DEPLOYING = ("canary", "promote")

Body = dict[str, Any]


def shipped() -> Iterator[Body]:
    """Yield the objects of docker/kubernetes."""
    for kustomization in sorted(FOLDER.glob("*/kustomization.yaml")):
        for name in yaml.safe_load(kustomization.read_text())["resources"]:
            yield from yaml.safe_load_all((kustomization.parent / name).read_text())


@pytest.fixture(scope="module")
def kubernetes() -> KubernetesConfig:
    found = load_runtime("kubernetes").kubernetes
    assert found is not None
    return found


@pytest.fixture(scope="module")
def pods(kubernetes: KubernetesConfig) -> dict[str, Body]:
    """Every pod by name: those of each step, of a model server, and of the shipped Deployments."""
    made = {step: step_pod(step, kubernetes) for step in STEPS if step not in JOBS}
    for step, job in jobs(kubernetes).items():
        for member in job.members():
            made[f"{step} {member}"] = replica_pod(job, kubernetes, member, 0, "slipway")
    made["serve"] = server(kubernetes)["spec"]["template"]
    workloads = [one for one in shipped() if one["kind"] in ("Deployment", "StatefulSet")]
    made |= {one["metadata"]["name"]: one["spec"]["template"] for one in workloads}
    assert len(made) == 8 + 4 + 1 + 1 + 5  # steps, training, evaluation, server, what we ship
    return made


def step_pod(step: str, kubernetes: KubernetesConfig) -> Body:
    operator = ComponentPodOperator(
        task_id=step, pipeline=PipelineRef("digits", ROOT), kubernetes=kubernetes
    )
    identity = TaskIdentity("digits", "run-1", step, generation=0, attempt=1)
    return operator.manifest(identity, StepCommand(step, "digits", "run-1", ROOT))


def jobs(kubernetes: KubernetesConfig) -> dict[str, JobSpec]:
    labels = task_labels("digits", "run-1", "train")
    train = TrainConfig(strategy="parameter_server", workers=2, parameter_servers=1)
    command = StepCommand("train", "digits", "run-1", ROOT)
    training = training_job("one", command, train, kubernetes.job, "python")
    command = StepCommand("evaluate", "digits", "run-1", ROOT)
    evaluation = evaluation_job("two", command, 1, kubernetes.job, "python")
    found = {"train": training, "evaluate": evaluation}
    return {step: job.model_copy(update={"labels": labels}) for step, job in found.items()}


def server(kubernetes: KubernetesConfig) -> Body:
    folders = (Path(PIPELINE, "versions/3"), Path(PIPELINE, "serving/predictions/3"))
    return deployment(ServerSpec("digits", 3, *folders, drain_seconds=5.0), kubernetes)


def containers(pod: Body) -> list[Body]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]


# --- the profile `restricted` -----------------------------------------------------------------


def violations(pod: Body) -> Iterator[str]:
    """Yield what the profile forbids.

    Source:
        Pod Security Standards, https://kubernetes.io/docs/concepts/security/pod-security-standards,
        v1.33: the controls of Baseline and Restricted that a pod on Linux can break.
    """
    spec, of_pod = pod["spec"], pod["spec"].get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"}
    allowed |= {"persistentVolumeClaim", "projected", "secret"}
    yield from (str(v) for v in spec.get("volumes", ()) if not v.keys() - {"name"} <= allowed)
    for container in containers(pod):
        own = container.get("securityContext", {})
        name = container["name"]
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: privileges"
        if own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot"
        if own.get("runAsUser", of_pod.get("runAsUser")) == 0:
            yield f"{name}: user 0"
        profile = own.get("seccompProfile", of_pod.get("seccompProfile", {}))
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccomp"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield f"{name}: capabilities"
        if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name}: added capabilities"
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield f"{name}: host port"


def test_every_pod_is_restricted(pods: dict[str, Body]) -> None:
    assert {name: found for name, pod in pods.items() if (found := list(violations(pod)))} == {}


def test_the_namespace_asks_for_it() -> None:
    (namespace,) = (one for one in shipped() if one["kind"] == "Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_pods_of_kubeflows_jobs_are_restricted(kubernetes: KubernetesConfig) -> None:
    (settings, job) = (kubernetes.job, jobs(kubernetes)["train"])
    tf = job.model_copy(update={"settings": settings.model_copy(update={"kind": "tfjob"})})
    replicas = kubeflow_job(tf, kubernetes)["spec"]["tfReplicaSpecs"]
    found = {role: list(violations(one["template"])) for role, one in replicas.items()}
    assert found == {"Chief": [], "Worker": [], "PS": []}


# --- secrets ----------------------------------------------------------------------------------


def secrets_of(pod: Body) -> set[str]:
    volumes = pod["spec"].get("volumes", ())
    mounted = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", ())}
    files = {v["secret"]["secretName"] for v in volumes if v["name"] in mounted and "secret" in v}
    variables = {one["secretRef"]["name"] for c in containers(pod) for one in c.get("envFrom", ())}
    return files | variables


def test_each_pod_sees_the_secrets_that_it_needs_and_no_others(pods: dict[str, Body]) -> None:
    found = {name: secrets_of(pod) for name, pod in pods.items()}
    tracking, agent = "slipway-tracking", "slipway-agent"
    own = {
        "serve": set(),
        "airflow": {"slipway-airflow", agent},
        "slipway-agent": {agent},
        "slipway-envoy": {agent},
        "mlflow": {tracking, "slipway-postgres"},
        "postgres": {"slipway-postgres"},
        **{step: {tracking, agent} for step in DEPLOYING},
    }
    assert found == {name: own.get(name, {tracking}) for name in pods}


def test_envoy_and_deploying_steps_see_one_key_of_the_agents_secret(pods: dict[str, Body]) -> None:
    keys = {
        name: [item["key"] for v in pods[name]["spec"]["volumes"] for item in _items(v)]
        for name in ("slipway-envoy", *DEPLOYING)
    }
    assert keys == {"slipway-envoy": ["envoy-token"], "canary": ["token"], "promote": ["token"]}


def _items(volume: Body) -> list[Body]:
    return list(volume.get("secret", {}).get("items", ()))


def test_no_password_of_a_service_is_in_a_manifest_or_on_a_command_line(
    pods: dict[str, Body],
) -> None:
    for name, pod in pods.items():
        for container in containers(pod):
            values = [one.get("valueFrom", {}) for one in container.get("env", ())]
            assert not any("secretKeyRef" in value for value in values), name
            words = " ".join([*container.get("command", ()), *map(str, container.get("args", ()))])
            assert "assword" not in words, name


def test_tokens_of_the_api_are_short_lived_and_only_where_the_api_is_called(
    pods: dict[str, Body],
) -> None:
    holders = set()
    for name, pod in pods.items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        for volume in pod["spec"].get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                if token := source.get("serviceAccountToken"):
                    assert token["expirationSeconds"] <= 3600
                    mounted = (c for c in containers(pod) if _mounts(c, volume["name"]))
                    holders |= {(name, one["name"]) for one in mounted}
    callers = {("slipway-agent", "agent"), ("airflow", "scheduler"), ("airflow", "triggerer")}
    assert holders == callers


def _mounts(container: Body, volume: str) -> bool:
    return any(mount["name"] == volume for mount in container.get("volumeMounts", ()))


# --- storage ----------------------------------------------------------------------------------


def may_write(pod: Body, path: str) -> bool:
    """Tell whether the container may write a path of the storage: the deepest mount decides."""
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    above = [m for m in mounts if Path(path).is_relative_to(m["mountPath"])]
    deepest = max(above, key=lambda mount: len(Path(mount["mountPath"]).parts), default=None)
    return deepest is not None and not deepest.get("readOnly", False)


@pytest.mark.parametrize("step", [*STEPS])
def test_a_step_writes_what_is_its_own(pods: dict[str, Body], step: str) -> None:
    (pod, *_) = [pod for name, pod in pods.items() if name.split()[0] == step]
    own = {
        f"{PIPELINE}/runs/run-1/{step}": True,
        f"{PIPELINE}/schema.json": True,
        f"{PIPELINE}/versions/3": step in ("package", "ingest", "promote"),  # the two remove
        f"{PIPELINE}/serving/predictions/3": step in ("ingest", *DEPLOYING),
        f"{PIPELINE}/serving/plan.json": step in DEPLOYING,
        f"{ROOT}/census/runs/run-1/train": False,
        f"{ROOT}/census/versions/1": False,
        "/slipway/serving": False,
        "/slipway/mlflow": False,
        f"{ROOT}/.slipway/environments/1": False,
    }
    assert {path: may_write(pod, path) for path in own} == own


def test_a_server_sees_its_package_and_its_log_and_nothing_else(pods: dict[str, Body]) -> None:
    (container,) = pods["serve"]["spec"]["containers"]
    found = [m for m in container["volumeMounts"] if m["name"] == "storage"]
    package, log = "artifacts/digits/versions/3", "artifacts/digits/serving/predictions/3"
    assert found == [
        {"name": "storage", "mountPath": f"/slipway/{package}", "subPath": package}
        | {"readOnly": True},
        {"name": "storage", "mountPath": f"/slipway/{log}", "subPath": log},
    ]


def test_mlflow_sees_its_own_folder_of_the_storage(pods: dict[str, Body]) -> None:
    (container,) = pods["mlflow"]["spec"]["containers"]
    (mount,) = (m for m in container["volumeMounts"] if m["name"] == "storage")
    assert mount == {"name": "storage", "mountPath": "/slipway/mlflow", "subPath": "mlflow"}


# --- the network ------------------------------------------------------------------------------


def is_selected(selector: Body, labels: dict[str, str]) -> bool:
    """As https://kubernetes.io/docs/concepts/overview/working-with-objects/labels says."""
    wanted = selector.get("matchLabels", {})
    tests = {"Exists": lambda have, _: have is not None, "In": lambda have, them: have in them}
    more = (
        tests[one["operator"]](labels.get(one["key"]), one.get("values"))
        for one in selector.get("matchExpressions", ())
    )
    return wanted.items() <= labels.items() and all(more)


def is_open(direction: str, of: dict[str, str], other: dict[str, str], port: int) -> bool:
    """Tell whether a pod may hear (`ingress`) or call (`egress`) another one of the namespace."""
    policies = [
        one["spec"]
        for one in shipped()
        if one["kind"] == "NetworkPolicy"
        and direction.title() in one["spec"]["policyTypes"]
        and is_selected(one["spec"]["podSelector"], of)
    ]
    peers = "from" if direction == "ingress" else "to"
    return not policies or any(
        _matches(rule.get(peers), other) and _has_port(rule, port)
        for policy in policies
        for rule in policy.get(direction, ())
    )


def _matches(peers: list[Body] | None, labels: dict[str, str]) -> bool:
    return peers is None or any(
        "namespaceSelector" not in peer and is_selected(peer["podSelector"], labels)
        for peer in peers
    )


def _has_port(rule: Body, port: int) -> bool:
    return "ports" not in rule or any(
        (one["port"], one["protocol"]) == (port, "TCP") for one in rule["ports"]
    )


PORTS = {"mlflow": 5000, "postgres": 5432, "slipway-agent": 8600, "slipway-envoy": 8500}
PORTS |= {"serve": 8501, "airflow": 8080, "train worker-0": 2222}


def test_pods_reach_whom_they_need_and_nobody_else(pods: dict[str, Body]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods.items()}
    reached = {
        name: {
            other
            for other, port in PORTS.items()
            if name != other
            and is_open("egress", labels[name], labels[other], port)
            and is_open("ingress", labels[other], labels[name], port)
        }
        for name in labels
    }
    steps = {step for step in STEPS if step not in JOBS}
    members = {name for name in labels if name.split()[0] in JOBS}
    assert reached == {
        **{step: {"mlflow"} for step in steps},
        **{name: {"mlflow", "train worker-0"} - {name} for name in members},
        **{step: {"mlflow", "slipway-agent"} for step in DEPLOYING},
        "serve": set(),
        "slipway-envoy": {"serve", "slipway-agent"},
        "slipway-agent": {"serve"},
        "airflow": {"mlflow", "slipway-agent"},
        "mlflow": {"postgres"},
        "postgres": set(),
    }


def test_the_agent_reads_envoys_counters_and_nobody_else_does(pods: dict[str, Body]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods.items()}
    envoy = labels["slipway-envoy"]
    readers = {
        name
        for name, own in labels.items()
        if is_open("ingress", envoy, own, 9902) and is_open("egress", own, envoy, 9902)
    }
    assert readers == {"slipway-agent"}


def test_every_pod_finds_names_and_a_stranger_reaches_envoy_only(pods: dict[str, Body]) -> None:
    (dns,) = (one for one in shipped() if one["metadata"]["name"] == "slipway-dns")
    assert dns["spec"]["podSelector"] == {}
    stranger = {"app": "stranger"}
    hears = {
        n: is_open("ingress", pods[n]["metadata"]["labels"], stranger, p) for n, p in PORTS.items()
    }
    assert hears == dict.fromkeys(PORTS, False) | {"slipway-envoy": True}


def test_a_drain_waits_for_no_envoy_that_does_not_serve() -> None:
    (budget,) = [one for one in shipped() if one["kind"] == "PodDisruptionBudget"]
    (envoy,) = [
        one
        for one in shipped()
        if one["metadata"]["name"] == "slipway-envoy" and one["kind"] == "Deployment"
    ]
    selector = envoy["spec"]["selector"]
    kept = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}
    assert (budget["apiVersion"], budget["spec"]) == ("policy/v1", kept)
