"""The typed form of a runtime file's `kubernetes` section: clusters, storage, what a pod gets."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contract.pod_templates import merged as laid_over
from contract.pod_templates import with_named_container

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$")]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/")]
JobKind = Literal["pods", "tfjob", "mpijob", "pytorchjob"]
Role = Literal["chief", "worker", "ps", "evaluator"]


class ClusterSection(BaseModel):
    """Base of these sections: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class ClusterConfig(ClusterSection):
    """One cluster, as a context of a kubeconfig, and the namespace in which jobs run."""

    context: str = Field(
        "",
        description="Context of the kubeconfig; empty: the service account of Airflow's own pod.",
    )
    kubeconfig: str = Field(
        "", description="Path of the kubeconfig; empty: KUBECONFIG, then ~/.kube/config."
    )
    namespace: DnsLabel = Field("slipway", description="Namespace in which the jobs run.")
    is_autoscaled: bool = Field(
        False,
        description="Whether nodes are added on demand; a pod that no node can take yet then waits "
        "instead of being refused.",
    )


class VolumeConfig(ClusterSection):
    """A volume that every pod mounts; the artifact root must lie on one that all clusters see."""

    name: DnsLabel = Field(description="Name of the volume in the pod, unique among the volumes.")
    mount_path: AbsolutePath = Field(description="Absolute path of the volume inside every pod.")
    claim: str = Field(
        "",
        description="Name of a PersistentVolumeClaim in the pod's namespace; exactly one of claim "
        "and host_path is given.",
    )
    host_path: str = Field(
        "",
        description="Path on the node, for single-node clusters and NFS mounts; exactly one of "
        "claim and host_path is given.",
    )
    is_read_only: bool = Field(False, description="Whether pods mount the volume read-only.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.claim) == bool(self.host_path):
            raise ValueError(f"volume '{self.name}': give either claim or host_path")
        return self


class TolerationConfig(ClusterSection):
    """A taint that a pod tolerates, in Kubernetes' own terms."""

    key: str = Field("", description="Key of the taint; empty: every key.")
    operator: Literal["Exists", "Equal"] = Field(
        "Exists", description="Whether the taint's key must exist or its value must be equal."
    )
    value: str = Field("", description="Value of the taint, for operator Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="Effect of the taint that is tolerated; empty: all effects."
    )


class PodConfig(ClusterSection):
    """What a pod gets; `roles.<role>` overrides `steps.<step>`, which overrides `pod`."""

    image: str = Field(
        "", description="Image of the pod, with Slipway, Python and the ML libraries."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When the node pulls the image, as in Kubernetes."
    )
    image_pull_secrets: tuple[str, ...] = Field(
        (), description="Names of the Secrets with which the node pulls the image."
    )
    python: str = Field("python", description="The Python interpreter inside the image.")
    cpu: Quantity = Field(
        "500m", description="CPU request, in cores ('2') or thousandths of a core ('500m')."
    )
    memory: Quantity = Field(
        "2Gi",
        description="Memory request in bytes, with a suffix such as Gi; also the limit unless "
        "memory_limit is given.",
    )
    cpu_limit: Quantity | None = Field(
        None, description="CPU limit, in cores or thousandths of a core; null: none."
    )
    memory_limit: Quantity | None = Field(
        None, description="Memory limit in bytes, with a suffix such as Gi; null: as the request."
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        0, description="GPUs of the pod, in units of gpu_resource; at least 0."
    )
    gpu_resource: str = Field(
        "nvidia.com/gpu", description="Resource name of a GPU, or of a MIG slice."
    )
    node_selector: dict[str, str] = Field(
        {}, description="Labels that a node must have to run the pod."
    )
    tolerations: tuple[TolerationConfig, ...] = Field(
        (), description="Taints of nodes that the pod tolerates."
    )
    priority_class: str = Field("", description="PriorityClass of the pod; empty: the default.")
    queue: str = Field(
        "",
        description="Kueue LocalQueue of the pod or of its job, set as label "
        "kueue.x-k8s.io/queue-name.",
    )
    service_account: str = Field(
        "", description="ServiceAccount of the pod; empty: the namespace's default."
    )
    environment: dict[str, str] = Field(
        {}, description="Environment variables of the pod, merged over those of `pod` by name."
    )
    environment_secrets: tuple[str, ...] = Field(
        (),
        description="Names of Secrets whose keys are environment variables of the pod; one that is "
        "missing is passed over.",
    )
    template: dict[str, Any] = Field(
        {},
        description="A partial Kubernetes Pod, over which all other keys are merged; that of a "
        "step or role is merged over that of `pod`.",
    )

    def merged(self, *over: "PodConfig | None") -> "PodConfig":
        """Return this with the keys that later configs set; `environment` and `template` are merged
        by the names in them."""
        merged = self
        for config in over:
            if config is None:
                continue
            update = {key: getattr(config, key) for key in config.model_fields_set}
            if "environment" in update:
                update["environment"] = {**merged.environment, **config.environment}
            if "template" in update:
                under = with_named_container(merged.template)
                update["template"] = laid_over(under, with_named_container(config.template))
            merged = merged.model_copy(update=update)
        return merged


class ProcessJobConfig(ClusterSection):
    """How a training job is restarted and stopped, wherever its processes run."""

    max_restarts: Annotated[int, Field(ge=0, le=100)] = Field(
        3, description="Most restarts of each role during one job, from 0 to 100."
    )
    restart_backoff_seconds: Annotated[float, Field(gt=0.0)] = Field(
        2.0,
        description="Seconds before the first restart, above 0; doubles with each restart, up to "
        "60 seconds.",
    )
    grace_seconds: Annotated[int, Field(ge=0)] = Field(
        5,
        description="Seconds between SIGTERM and SIGKILL, at least 0: time to finish the current "
        "step and write its checkpoint. A GPU is not free before that.",
    )


class JobConfig(ProcessJobConfig):
    """How a training job of several pods is started, restarted and cleaned up."""

    kind: JobKind = Field(
        "pods",
        description="Object that runs the job: plain pods, which need no operator in the cluster, "
        "or a job of Kubeflow's operators.",
    )
    start_deadline_seconds: Annotated[float, Field(gt=0.0)] = Field(
        600.0,
        description="Seconds within which all pods must run, above 0; after that the job fails and "
        "reports what the pods wait for.",
    )
    queue_deadline_seconds: Annotated[float, Field(gt=0.0)] = Field(
        604800.0,
        description="Seconds within which a queue must admit the job, above 0; after that the job "
        "fails and reports what it waits for.",
    )
    gang_seconds: Annotated[float, Field(gt=0.0)] = Field(
        15.0,
        description="Seconds within which all pods must have a node, above 0; after that all give "
        "up their nodes and wait.",
    )
    ttl_seconds: Annotated[int, Field(ge=1)] = Field(
        3600,
        description="Seconds after which the reaper removes a job that no driver renews, at least "
        "1.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        2222, description="TCP port on which the processes of a job listen, from 1 to 65535."
    )
    command: tuple[str, ...] = Field(
        (),
        description="Command that replaces `python -m components.train`; it gets the same "
        "arguments and must write the same result.json. Its image is `steps.train.image`.",
    )


class ServingConfig(ClusterSection):
    """How model servers run in a cluster; `steps.serve` holds the resources of their pods."""

    min_replicas: Annotated[int, Field(ge=1)] = Field(
        2,
        description="Fewest replicas of each version's server, at least 1. From 2 on a node may be "
        "drained, and a pod deleted, without an interruption.",
    )
    max_replicas: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Most replicas, at least min_replicas; if above it, servers are scaled by CPU "
        "use, which needs a metrics server; null: as min_replicas.",
    )
    target_cpu_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        70,
        description="CPU use in percent of the request, from 1 to 100, above which a replica is "
        "added.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8501, description="TCP port on which a server listens, from 1 to 65535."
    )
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8500,
        description="TCP port on which a server with serve.grpc speaks gRPC, from 1 to 65535.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.most_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: expected at least min_replicas ({self.min_replicas}), found "
                f"{self.max_replicas}"
            )
        return self

    @property
    def most_replicas(self) -> int:
        """How many replicas there may be."""
        return self.max_replicas or self.min_replicas


class KubernetesConfig(ClusterSection):
    """Where the pods of each step run, and what they get."""

    clusters: Annotated[dict[DnsLabel, ClusterConfig], Field(min_length=1)] = Field(
        description="The clusters by name, at least one."
    )
    default_cluster: DnsLabel = Field(
        description="Name of the cluster for steps that cluster_of does not list."
    )
    cluster_of: dict[str, DnsLabel] = Field(
        {}, description="Cluster by step, for steps that do not run on the default cluster."
    )
    volumes: tuple[VolumeConfig, ...] = Field((), description="Volumes that every pod mounts.")
    pod: PodConfig = Field(PodConfig(), description="What every pod gets.")
    steps: dict[str, PodConfig] = Field(
        {}, description="What the pods of a step get, by step; overrides `pod`."
    )
    roles: dict[Role, PodConfig] = Field(
        {},
        description="What pods of a role get: chief, worker and ps in training, evaluator in "
        "evaluation; overrides `steps`.",
    )
    job: JobConfig = Field(JobConfig(), description="How training jobs start, restart and end.")
    serving: ServingConfig = Field(
        ServingConfig(), description="How model servers run in the cluster."
    )
    start_timeout_seconds: Annotated[int, Field(ge=1)] = Field(
        600, description="Seconds that a component's pod may take to start, at least 1."
    )
    pull_retry_seconds: Annotated[float, Field(gt=0.0)] = Field(
        60.0, description="Seconds for which the pull of an image is retried, above 0."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {"default_cluster": self.default_cluster}
        named |= {f"cluster_of.{step}": name for step, name in self.cluster_of.items()}
        problems = [
            f"{key}: '{name}' is not a key of clusters ({', '.join(self.clusters)})"
            for key, name in named.items()
            if name not in self.clusters
        ]
        if len({v.name for v in self.volumes}) != len(self.volumes):
            problems.append("volumes: names repeat")
        if not self.pod.image:
            problems.append("pod.image: missing")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def cluster(self, step: str) -> ClusterConfig:
        """Return the cluster on which a step runs."""
        return self.clusters[self.cluster_of.get(step, self.default_cluster)]

    def pod_of(self, step: str, role: Role | None = None) -> PodConfig:
        """Return what the pods of a step, or of one of its roles, get."""
        return self.pod.merged(self.steps.get(step), self.roles.get(role) if role else None)
