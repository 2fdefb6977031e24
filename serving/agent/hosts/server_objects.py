"""The Kubernetes objects of one model server. Pure; in the API's own JSON form."""

from contract.pods import CONTAINER, MANAGED, Inside, Manifest, pod
from contract.schema.cluster import KubernetesConfig
from serving.agent.hosts.host import ServerSpec
from serving.traffic.backend import Endpoint, Version

SERVE = "serve"  # the step's name in a runtime file
PIPELINE, VERSION = "slipway/pipeline", "slipway/version"
SERVERS = {**MANAGED, "app.kubernetes.io/component": "model-server"}

_START_SECONDS = 300  # loading TensorFlow and warming a large model on a busy node
_PROBE_SECONDS = 2
_LEAVING_SECONDS = 1  # between a pod's removal from the Service and its SIGTERM
_MARGIN_SECONDS = 5


def server_name(version: Version) -> str:
    """Return the name of a server's objects; a pipeline's name has no dash."""
    return f"slipway-{version[0].replace('_', '-')}-{version[1]}"


def server_labels(version: Version) -> dict[str, str]:
    """Return the labels by which a server's pods are found."""
    return {**SERVERS, PIPELINE: version[0], VERSION: str(version[1])}


def version_of(labels: dict[str, str]) -> Version | None:
    """Return pipeline and version of a server's object; None for any other object."""
    if PIPELINE not in labels or not labels.get(VERSION, "").isdecimal():
        return None
    return labels[PIPELINE], int(labels[VERSION])


def endpoint(version: Version, kubernetes: KubernetesConfig) -> Endpoint:
    """Return where a server's replicas answer: one name for all of them."""
    namespace = kubernetes.cluster(SERVE).namespace
    return Endpoint(f"{server_name(version)}.{namespace}.svc", kubernetes.serving.port)


def deployment(spec: ServerSpec, kubernetes: KubernetesConfig) -> Manifest:
    """Return the Deployment; how many replicas is the autoscaler's to say where there is one."""
    serving, labels = kubernetes.serving, server_labels(spec.key)
    template = _pod(spec, kubernetes)
    scale = {} if _is_scaled(kubernetes) else {"replicas": serving.min_replicas}
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


def service(version: Version, kubernetes: KubernetesConfig) -> Manifest:
    """Return the headless Service: its name stands for all replicas, and Envoy chooses.

    Those not ready are named too: Envoy asks each for its health, faster than names change.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": server_name(version), "labels": server_labels(version)},
        "spec": {
            "clusterIP": "None",
            "selector": server_labels(version),
            "publishNotReadyAddresses": True,
            "ports": [{"name": "http", "protocol": "TCP", "port": kubernetes.serving.port}],
        },
    }


def autoscaler(version: Version, kubernetes: KubernetesConfig) -> Manifest | None:
    """Return the HorizontalPodAutoscaler, if the runtime file wants one."""
    if not _is_scaled(kubernetes):
        return None
    serving, name = kubernetes.serving, server_name(version)
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": server_labels(version)},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": serving.min_replicas,
            "maxReplicas": serving.max_replicas,
            "targetCPUUtilizationPercentage": serving.target_cpu_percent,
        },
    }


def _is_scaled(kubernetes: KubernetesConfig) -> bool:
    return kubernetes.serving.max_replicas > kubernetes.serving.min_replicas


def _pod(spec: ServerSpec, kubernetes: KubernetesConfig) -> Manifest:
    config, port = kubernetes.pod_of(SERVE), kubernetes.serving.port
    options = {
        "--package": spec.package,
        "--host": "0.0.0.0",
        "--port": port,
        "--predictions": spec.predictions,
    }
    words = [str(word) for pair in options.items() for word in pair]
    command = (config.python, "-m", "serving.server", *words)
    inside = Inside(server_name(spec.key), command, server_labels(spec.key))
    made = pod(config, kubernetes.volumes, inside)
    made["spec"]["restartPolicy"] = "Always"
    grace = spec.drain_seconds + _LEAVING_SECONDS + _MARGIN_SECONDS
    made["spec"]["terminationGracePeriodSeconds"] = round(grace)
    (container,) = (one for one in made["spec"]["containers"] if one["name"] == CONTAINER)
    container["ports"] = [{"name": "http", "protocol": "TCP", "containerPort": port}]
    container |= _probes(port, config.python)
    return made


def _probes(port: int, python: str) -> Manifest:
    healthy = {"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": _PROBE_SECONDS}
    wait = [python, "-c", f"import time; time.sleep({_LEAVING_SECONDS})"]
    return {
        "startupProbe": {**healthy, "failureThreshold": _START_SECONDS // _PROBE_SECONDS},
        "readinessProbe": {**healthy, "failureThreshold": 1, "timeoutSeconds": 2},
        # a busy server is not a dead one: only a port that nobody answers for long restarts it
        "livenessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 10, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": wait}}},
    }
