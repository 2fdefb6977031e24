"""The serving side of a cluster, from docker/kubernetes/serving, as the tests deploy it."""

import http.client
import json
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from clusters import ROOT, TestCluster, kustomized, wait_for

from components.agent_client import AgentClient
from contract.layout import PipelineLayout
from contract.pods import merged
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Arm, Observation, TrafficPlan
from contract.schema.cluster import KubernetesConfig
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

ROW = {"x": 1.0}  # of the models of `add_package`
TOKENS = {"token": "for deploying", "envoy-token": "for Envoys"}


class ServingSide:
    """Agent and Envoys of one cluster."""

    def __init__(self, cluster: TestCluster, layout: PipelineLayout) -> None:
        self.cluster = cluster
        self.layout = layout

    def deploy(self, kubernetes: KubernetesConfig) -> None:
        """Apply the manifests, for pods of this config, and wait until the agent is there."""
        runtime = {
            "kind": "kubernetes",
            "root": str(self.layout.root),
            "kubernetes": kubernetes.model_dump(mode="json", exclude_unset=True),
        }
        self._give("configmap", "slipway-runtime", {"runtime.yaml": yaml.safe_dump(runtime)})
        self._give("secret", "slipway-agent", TOKENS)
        for body in kustomized("serving"):
            self.cluster.apply(self._as_here(body, kubernetes))
        self.connect()

    def connect(self) -> None:
        """Wait until the agent is there."""
        self.client = AgentClient(f"http://{self._address('slipway-agent')}:8600", TOKENS["token"])
        wait_for(lambda: self.ready("slipway-agent") == 1, 90, "the agent")

    def _give(self, kind: str, name: str, content: dict[str, str]) -> None:
        key = "stringData" if kind == "secret" else "data"
        self.cluster.apply(
            {"apiVersion": "v1", "kind": kind.title().replace("map", "Map"), key: content}
            | {"metadata": {"name": name}}
        )

    def _as_here(self, body: dict[str, Any], kubernetes: KubernetesConfig) -> dict[str, Any]:
        """Return a manifest for this namespace, this storage and this machine's Python."""
        body["metadata"]["namespace"] = self.cluster.namespace
        for subject in body.get("subjects", ()):
            subject["namespace"] = self.cluster.namespace
        if body["kind"] != "Deployment":
            return body
        spec = body["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pod = kubernetes.pod
        home = self.layout.root.parent / "serving"
        container["args"] = [
            arg.replace("/slipway/artifacts", str(self.layout.root)).replace(
                "/slipway/serving", str(home)
            )
            for arg in container["args"]
        ]
        container["image"], container["imagePullPolicy"] = pod.image, pod.image_pull_policy
        container["command"][0] = pod.python
        spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "storage"]
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "storage"]
        if pod.python == sys.executable:  # it is not everybody's, nor are the folders of a test
            spec.pop("securityContext")
            spec["containers"][0]["workingDir"] = str(ROOT)
            container.setdefault("env", []).extend(
                {"name": k, "value": v} for k, v in pod.environment.items()
            )
        volumes = kubernetes.volumes
        more = {
            "containers": [
                {
                    "name": container["name"],
                    "volumeMounts": [{"name": v.name, "mountPath": v.mount_path} for v in volumes],
                }
            ],
            "volumes": [{"name": v.name, "hostPath": {"path": v.host_path}} for v in volumes],
        }
        body["spec"]["template"]["spec"] = merged(spec, more)
        return body

    def _address(self, service: str) -> str:
        found = json.loads(self.cluster.kubectl("get", "service", service, "-o", "json"))
        return str(found["spec"]["clusterIP"])

    # --- what one sees ---

    @property
    def data_plane(self) -> str:
        """The address of the Envoys' Service."""
        return self._address("slipway")

    def ready(self, deployment: str) -> int:
        """Return how many replicas of a Deployment are ready; 0 without the Deployment."""
        said = self.cluster.kubectl("get", "deployment", deployment, "-o", "json", is_checked=False)
        return int(json.loads(said)["status"].get("readyReplicas", 0)) if said else 0

    def pods(self, app: str) -> list[str]:
        """Return the names of the pods of `slipway-agent` or `slipway-envoy`."""
        return list(self.cluster.pods(f"app={app}"))

    def observation(self) -> Observation:
        return self.client.observation(self.layout.pipeline)

    # --- what one does ---

    def add_package(self, version: int, scores: tuple[float, float]) -> None:
        """Put a package on the storage whose model always answers these scores."""
        folder = self.layout.version(version)
        _save_model(folder / "model", scores)
        PackageManifest(
            pipeline=self.layout.pipeline,
            version=version,
            created_at=datetime.now(UTC),
            digest=digest_directory(folder / "model"),
            inputs={"x": InputSpec(dtype="float32")},
            heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
            serve=ServeConfig(drain_seconds=5.0),
            provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
        ).write(folder / "package.json")

    def propose(self, weights: dict[int, int], **more: Any) -> TrafficPlan:
        """Store a plan: the first version is stable, the second the canary."""
        arms = tuple(
            Arm(name=name, version=version, weight_percent=weight)
            for name, (version, weight) in zip(("stable", "canary"), weights.items(), strict=False)
        )
        current = self.client.plan(self.layout.pipeline)
        return self.client.propose(current.model_copy(update={"arms": arms, **more}))

    def serve(self, weights: dict[int, int], seconds: float = 120.0, **more: Any) -> float:
        """Put a plan in force and return after how many seconds all Envoys follow it."""
        plan, began = self.propose(weights, **more), time.monotonic()
        wait_for(
            lambda: self.observation().generation >= plan.generation,
            seconds,
            f"traffic by plan {plan.generation}",
        )
        return time.monotonic() - began


def _save_model(folder: Path, scores: tuple[float, float]) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.repeat(tf.constant([scores]), tf.shape(x)[0], axis=0)}

    module.serving_default = serving_default
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})


class Callers:
    """Callers that send predictions through the Envoys' Service without pause."""

    def __init__(self, side: ServingSide, row: Any = ROW, count: int = 4) -> None:
        self._host = side.data_plane
        self._path = f"/v1/models/{side.layout.pipeline}:predict"
        self._body = json.dumps({"instances": [row]})
        self._is_stopping = False
        self.answers: list[tuple[float, str]] = []  # when sent, version or error
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping = True
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        connection = http.client.HTTPConnection(self._host, 80, timeout=20)
        while not self._is_stopping:
            sent = time.monotonic()
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                said = answer.read()
                who = answer.getheader("x-slipway-version", "") if answer.status == 200 else ""
                result = who or f"{answer.status} {said[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                result = type(error).__name__
            self.answers.append((sent, result))
            time.sleep(0.005)

    def counted(self) -> Counter[str]:
        return Counter(result for _, result in self.answers)

    def failures(self) -> Counter[str]:
        return Counter({k: n for k, n in self.counted().items() if not k.isdecimal()})

    def last(self, version: int) -> float:
        """Return when the last request was sent that a version answered."""
        return max(sent for sent, result in self.answers if result == str(version))
