"""The Kubernetes objects of one model server. Pure; in the API's own JSON form."""

from contract.pod_storage import FolderAccess
from contract.pod_templates import CONTAINER, Manifest
from contract.pods import MANAGED, Inside, pod
from contract.programs import program_command
from contract.schema.cluster import KubernetesConfig
from serving.agent.hosts.host import GRPC, HTTP, ServerSpec
from serving.traffic.backend import Endpoint, Version

SERVE = "serve"  # the step's name in a runtime file
PIPELINE, VERSION = "slipway/pipeline", "slipway/version"
SERVERS = {**MANAGED, "app.kubernetes.io/component": "model-server"}

_START_SECONDS = 300  # loading TensorFlow and warming a large model on a busy node
_PROBE_SECONDS = 2
# Between a server's SIGTERM and its port's end. Until its health is refused, Envoy sends it
# requests, also when its name no longer leads to it; Envoy asks every second.
_LEAVING_SECONDS = 3
_MARGIN_SECONDS = 5


def server_name(version: Version) -> str:
    """Return the name of a server's objects; a pipeline's name has no dash."""
    return f"slipway-{version[0].replace('_', '-')}-{version[1]}"


def server_access(spec: ServerSpec) -> tuple[FolderAccess, ...]:
    """Return all that a server sees of the storage: its package, and where it logs."""
    package = FolderAccess(path=str(spec.package), is_read_only=True)
    return (package, FolderAccess(path=str(spec.predictions)))


def server_labels(version: Version) -> dict[str, str]:
    """Return the labels by which a server's pods are found."""
    return {**SERVERS, PIPELINE: version[0], VERSION: str(version[1])}


def version_of(labels: dict[str, str]) -> Version | None:
    """Return pipeline and version of a server's object; None for any other object."""
    if PIPELINE not in labels or not labels.get(VERSION, "").isdecimal():
        return None
    return labels[PIPELINE], int(labels[VERSION])


def endpoint(version: Version, kubernetes: KubernetesConfig, has_grpc: bool = False) -> Endpoint:
    """Return where a server's replicas answer: one name for all of them."""
    namespace, serving = kubernetes.cluster(SERVE).namespace, kubernetes.serving
    host = f"{server_name(version)}.{namespace}.svc"
    return Endpoint(host, serving.port, serving.grpc_port if has_grpc else None)


def has_grpc(deployment: Manifest) -> bool:
    """Tell whether a server's Deployment has a port for gRPC."""
    containers = deployment["spec"].get("template", {}).get("spec", {}).get("containers", ())
    return any(port.get("name") == GRPC for one in containers for port in one.get("ports", ()))


def deployment(spec: ServerSpec, kubernetes: KubernetesConfig) -> Manifest:
    """Return the Deployment; how many replicas is the autoscaler's to say where there is one."""
    serving, labels = kubernetes.serving, server_labels(spec.key)
    template = _pod(spec, kubernetes)
    scale = {} if is_scaled(kubernetes) else {"replicas": serving.min_replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": server_name(spec.key), "labels": labels},
        "spec": {
            **scale,
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": {
                "metadata": {"labels": template["metadata"]["labels"]},
                "spec": template["spec"],
            },
        },
    }


def service(spec: ServerSpec, kubernetes: KubernetesConfig) -> Manifest:
    """Return the headless Service: its name stands for all replicas, and Envoy chooses.

    Those not ready are named too: Envoy asks each for its health, faster than names change.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": server_name(spec.key), "labels": server_labels(spec.key)},
        "spec": {
            "clusterIP": "None",
            "selector": server_labels(spec.key),
            "publishNotReadyAddresses": True,
            "ports": [
                {"name": name, "protocol": "TCP", "port": number}
                for name, number in _ports(spec, kubernetes).items()
            ],
        },
    }


def autoscaler(version: Version, kubernetes: KubernetesConfig) -> Manifest | None:
    """Return the HorizontalPodAutoscaler, if the runtime file wants one."""
    if not is_scaled(kubernetes):
        return None
    serving, name = kubernetes.serving, server_name(version)
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": server_labels(version)},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": serving.min_replicas,
            "maxReplicas": serving.most_replicas,
            "targetCPUUtilizationPercentage": serving.target_cpu_percent,
        },
    }


def disruption_budget(version: Version, kubernetes: KubernetesConfig) -> Manifest | None:
    """Return the PodDisruptionBudget, by which a drained node waits until others serve.

    One that does not serve can always be evicted: no drain waits for a version that is broken.
    None for a single replica: it may always be the one that is unavailable, so that a budget would
    keep nothing.
    """
    if kubernetes.serving.min_replicas == 1:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": server_name(version), "labels": server_labels(version)},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": server_labels(version)},
        },
    }


def older_budgets(budget: Manifest) -> list[Manifest]:
    """Return a PodDisruptionBudget as API servers before Kubernetes 1.26 and before 1.21 have it.

    In an apply they refuse a field that they do not know.
    """
    spec = {k: value for k, value in budget["spec"].items() if k != "unhealthyPodEvictionPolicy"}
    return [{**budget, "apiVersion": f"policy/{v}", "spec": spec} for v in ("v1", "v1beta1")]


def _ports(spec: ServerSpec, kubernetes: KubernetesConfig) -> dict[str, int]:
    """Return a server's ports by name."""
    numbers = {HTTP: kubernetes.serving.port, GRPC: kubernetes.serving.grpc_port}
    return {name: numbers[name] for name in spec.port_names}


def is_scaled(kubernetes: KubernetesConfig) -> bool:
    """Tell whether an autoscaler says how many replicas there are."""
    return kubernetes.serving.most_replicas > kubernetes.serving.min_replicas


def _pod(spec: ServerSpec, kubernetes: KubernetesConfig) -> Manifest:
    config, port = kubernetes.pod_of(SERVE), kubernetes.serving.port
    options: dict[str, object] = {
        "--package": spec.package,
        "--host": "0.0.0.0",
        "--port": port,
        "--predictions": spec.predictions,
        "--leave-seconds": _LEAVING_SECONDS,
    }
    if spec.is_grpc:
        options["--grpc-port"] = kubernetes.serving.grpc_port
    words = [str(word) for pair in options.items() for word in pair]
    command = (*program_command(spec.program, config.python), *words)
    labels = server_labels(spec.key)
    inside = Inside(
        server_name(spec.key), command, labels, storage=server_access(spec), is_narrow=True
    )
    made = pod(config, kubernetes.volumes, inside)
    made["spec"]["restartPolicy"] = "Always"
    made["spec"].setdefault("topologySpreadConstraints", _spread(labels))
    grace = spec.drain_seconds + _LEAVING_SECONDS + _MARGIN_SECONDS
    made["spec"]["terminationGracePeriodSeconds"] = round(grace)
    (container,) = (one for one in made["spec"]["containers"] if one["name"] == CONTAINER)
    container["ports"] = [
        {"name": name, "protocol": "TCP", "containerPort": number}
        for name, number in _ports(spec, kubernetes).items()
    ]
    container |= _probes(port)
    return made


def _spread(labels: dict[str, str]) -> list[Manifest]:
    """Put replicas on different nodes and zones where there are some; never wait for them."""
    keys = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    rule = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    return [{**rule, "topologyKey": key, "labelSelector": {"matchLabels": labels}} for key in keys]


def _probes(port: int) -> Manifest:
    healthy = {"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": _PROBE_SECONDS}
    return {
        "startupProbe": {**healthy, "failureThreshold": _START_SECONDS // _PROBE_SECONDS},
        "readinessProbe": {**healthy, "failureThreshold": 1, "timeoutSeconds": 2},
        # a busy server is not a dead one: only a port that nobody answers for long restarts it
        "livenessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 10, "failureThreshold": 3},
    }
