"""The serving side of a cluster, from docker/kubernetes/serving, as the tests deploy it."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from callers import Callers
from clusters import ROOT, TestCluster, kustomized, process_namespace, wait_for

from components.runs.agent_client import AgentClient
from contract.command import StepCommand
from contract.layout import PipelineLayout, RunLayout
from contract.pod_templates import merged
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import Result
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
        self.agent_url = f"http://{self._address('slipway-agent')}:8600"
        self.client = AgentClient(self.agent_url, TOKENS["token"])
        wait_for(lambda: self.ready("slipway-agent") == 1, 240, "the agent")

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
        body["spec"]["template"]["spec"] = merged(spec, more) | process_namespace()
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

    def called(self, row: Any = ROW, pause: float = 0.005) -> Callers:
        """Return callers who send a row to the Envoys' Service, to be used in a `with`."""
        address, pipeline = (self.data_plane, 80), self.layout.pipeline
        return Callers(address, pipeline, {"instances": [row]}, pause=pause)

    def add_package(
        self,
        version: int,
        scores: tuple[float, float],
        fault_ratio: float = 0.0,
        compared_with: int | None = None,
    ) -> str:
        """Put a package on the storage whose model always answers these scores; return its digest.

        A share of its requests may fail, and it may have been compared with a version in service.
        """
        folder = self.layout.version(version)
        _save_model(folder / "model", scores)
        digest = digest_directory(folder / "model")
        PackageManifest(
            pipeline=self.layout.pipeline,
            version=version,
            created_at=datetime.now(UTC),
            digest=digest,
            inputs={"x": InputSpec(dtype="float32")},
            heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
            serve=ServeConfig(drain_seconds=5.0, fault_ratio=fault_ratio),
            compared_with_version=compared_with,
            provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
        ).write(folder / "package.json")
        return digest

    def canary(self, run: RunLayout) -> Result:
        """Run the deployment's first stage as a process of this machine, and return its result."""
        token_file = self.layout.root.parent / "token"
        token_file.write_text(TOKENS["token"])
        environment = os.environ | {
            "SLIPWAY_AGENT_URL": self.agent_url,
            "SLIPWAY_AGENT_TOKEN_FILE": str(token_file),
        }
        command = StepCommand("canary", run.pipeline, run.run_id, str(run.root)).arguments()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Result.read(run.result("canary"))

    def propose(self, weights: dict[int, int], **more: Any) -> TrafficPlan:
        """Store a plan: the first version is stable, the second the canary."""
        arms = tuple(
            Arm(name=name, version=version, weight_percent=weight)
            for name, (version, weight) in zip(("stable", "canary"), weights.items(), strict=False)
        )
        current = self.client.plan(self.layout.pipeline)
        return self.client.propose(current.model_copy(update={"arms": arms, **more}))

    def serve(self, weights: dict[int, int], seconds: float = 300.0, **more: Any) -> float:
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
