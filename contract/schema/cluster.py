"""The typed form of a runtime file's `kubernetes` section: clusters, storage, what a pod gets."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

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

    context: str = Field("", description="Empty: the service account of the pod Airflow runs in.")
    kubeconfig: str = Field("", description="A path; empty: KUBECONFIG, then ~/.kube/config.")
    namespace: DnsLabel = "slipway"
    is_autoscaled: bool = Field(
        False, description="Nodes are added on demand: a pod that none can take yet is not refused."
    )


class VolumeConfig(ClusterSection):
    """A volume that every pod mounts; the artifact root must lie on one that all clusters see."""

    name: DnsLabel
    mount_path: AbsolutePath
    claim: str = Field("", description="A PersistentVolumeClaim of the pod's namespace.")
    host_path: str = Field("", description="A path of the node: single-node clusters, NFS mounts.")
    is_read_only: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.claim) == bool(self.host_path):
            raise ValueError(f"volume '{self.name}': give either claim or host_path")
        return self


class TolerationConfig(ClusterSection):
    """A taint that a pod puts up with; Kubernetes' own words."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class PodConfig(ClusterSection):
    """What a pod gets; of `pod`, `steps.<step>`, `roles.<role>` the last that says a key wins."""

    image: str = Field("", description="Holds Slipway, Python and the ML libraries.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    python: str = Field("python", description="The interpreter inside the image.")
    cpu: Quantity = Field("500m", description="Requested; the scheduler counts it.")
    memory: Quantity = Field("2Gi", description="Requested, and the limit unless one is given.")
    cpu_limit: Quantity | None = None
    memory_limit: Quantity | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_resource: str = Field("nvidia.com/gpu", description="Or a MIG slice's resource name.")
    node_selector: dict[str, str] = {}
    tolerations: tuple[TolerationConfig, ...] = ()
    priority_class: str = ""
    queue: str = Field("", description="A Kueue LocalQueue, as label kueue.x-k8s.io/queue-name.")
    service_account: str = ""
    environment: dict[str, str] = {}
    template: dict[str, Any] = Field({}, description="A pod, partial; merged under all of this.")

    def merged(self, *over: "PodConfig | None") -> "PodConfig":
        """Return this with every key that a later one says; `environment` is joined key by key."""
        merged = self
        for config in over:
            if config is None:
                continue
            update = {key: getattr(config, key) for key in config.model_fields_set}
            if "environment" in update:
                update["environment"] = {**merged.environment, **config.environment}
            merged = merged.model_copy(update=update)
        return merged


class ProcessJobConfig(ClusterSection):
    """How a training job is restarted and stopped, wherever its processes run."""

    max_restarts: Annotated[int, Field(ge=0, le=100)] = Field(
        3, description="Of each role, over the life of one job."
    )
    restart_backoff_seconds: Annotated[float, Field(gt=0.0)] = Field(
        2.0, description="Before the first restart; doubles with each, to a minute."
    )
    grace_seconds: Annotated[int, Field(ge=0)] = Field(
        5,
        description="Between SIGTERM and SIGKILL: for the step under way and its checkpoint; a "
        "freed GPU waits for it.",
    )


class JobConfig(ProcessJobConfig):
    """How a training job of several pods is started, restarted and cleaned up."""

    kind: JobKind = Field("pods", description="'pods' needs no operator in the cluster.")
    start_deadline_seconds: Annotated[float, Field(gt=0.0)] = Field(
        600.0, description="All pods run by then, or the job fails and says what they wait for."
    )
    gang_seconds: Annotated[float, Field(gt=0.0)] = Field(
        15.0, description="If not all pods have a node by then, all give theirs back and wait."
    )
    ttl_seconds: Annotated[int, Field(ge=1)] = Field(
        3600, description="What nobody looks after for so long is removed by the reaper."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = 2222
    command: tuple[str, ...] = Field(
        (),
        description="Trains in place of `python -m components.train`, with the same arguments; it "
        "must leave the same result.json. The image is `steps.train.image`.",
    )


class ServingConfig(ClusterSection):
    """How model servers run in a cluster; what their pods get, `steps.serve` says."""

    min_replicas: Annotated[int, Field(ge=1)] = 1
    max_replicas: Annotated[int, Field(ge=1)] = Field(
        1, description="Above the minimum: scaled by CPU use; needs a metrics server."
    )
    target_cpu_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        70, description="Of the CPU requested; above it a replica is added."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = 8501

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: expected at least min_replicas ({self.min_replicas}), found "
                f"{self.max_replicas}"
            )
        return self


class KubernetesConfig(ClusterSection):
    """Where the pods of each step run, and what they get."""

    clusters: Annotated[dict[DnsLabel, ClusterConfig], Field(min_length=1)]
    default_cluster: DnsLabel
    cluster_of: dict[str, DnsLabel] = Field({}, description="By step, where not the default.")
    volumes: tuple[VolumeConfig, ...] = ()
    pod: PodConfig = PodConfig()
    steps: dict[str, PodConfig] = {}
    roles: dict[Role, PodConfig] = Field(
        {}, description="Of training: chief, worker, ps. Of evaluation: evaluator."
    )
    job: JobConfig = JobConfig()
    serving: ServingConfig = ServingConfig()
    start_timeout_seconds: Annotated[int, Field(ge=1)] = Field(
        600, description="Longest that a component's pod may take to start."
    )
    pull_retry_seconds: Annotated[float, Field(gt=0.0)] = Field(
        60.0, description="An image that cannot be pulled is tried again for so long."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {"default_cluster": self.default_cluster}
        named |= {f"cluster_of.{step}": name for step, name in self.cluster_of.items()}
        problems = [
            f"{key}: '{name}' is no key of clusters ({', '.join(self.clusters)})"
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
        """Return what the pods of a step, or of one role of it, get."""
        return self.pod.merged(self.steps.get(step), self.roles.get(role) if role else None)
