"""The typed form of `configs/runtimes/<name>.yaml`."""

from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.cluster import KubernetesConfig, ProcessJobConfig
from contract.schema.rights import RunsConfig, SourcesConfig
from contract.schema.section import Count, Section
from contract.schema.source import without_credentials


class ProcessesConfig(Section):
    """How component processes start on this machine."""

    start: Literal["auto", "warm", "fresh"] = Field(
        "auto",
        description="How a process starts. 'warm': as a fork of a process that has imported "
        "TensorFlow and Beam; 'fresh': as a new interpreter; 'auto': warm, but fresh where an "
        "NVIDIA device is visible.",
    )


class TrafficConfig(Section):
    """How requests reach model servers."""

    backend: str = Field(
        "envoy",
        description="What moves the traffic as the plans say; 'slipway up' names those that exist.",
    )


class RuntimeConfig(Section):
    """Where components run: `configs/runtimes/<name>.yaml`."""

    kind: Literal["local", "kubernetes"] = Field(
        "local", description="Whether components run as processes of this machine or as pods."
    )
    root: str = Field(
        "",
        description="Artifact root: a path, or the URI of a place in an object store "
        "(s3://bucket/prefix) for runs with 'slipway run --local'; empty: "
        "'<state folder>/artifacts'.",
    )
    max_parallel_components: Count = Field(
        2, description="Most components of one pipeline that run at the same time, at least 1."
    )
    job: ProcessJobConfig = Field(
        ProcessJobConfig(),
        description="How training jobs restart and stop with kind 'local'; with kind 'kubernetes' "
        "this is kubernetes.job.",
    )
    processes: ProcessesConfig = Field(
        ProcessesConfig(), description="How component processes start; only with kind 'local'."
    )
    traffic: TrafficConfig = Field(
        TrafficConfig(), description="The data plane of the services that 'slipway up' starts."
    )
    runs: RunsConfig = Field(
        RunsConfig(), description="What somebody who may start a run in Airflow may change by it."
    )
    sources: SourcesConfig = Field(
        SourcesConfig(), description="Where pipelines may read their data."
    )
    kubernetes: KubernetesConfig | None = Field(
        None, description="Clusters, volumes and pods; required with kind 'kubernetes', only there."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError("section 'kubernetes' belongs to kind 'kubernetes', and only there")
        if self.kind == "kubernetes" and "job" in self.model_fields_set:
            raise ValueError("section 'job' belongs to kind 'local'; expected kubernetes.job")
        if self.kind == "kubernetes" and "processes" in self.model_fields_set:
            raise ValueError("section 'processes' belongs to kind 'local'")
        if "://" in self.root:
            without_credentials(self.root)
        if self.kind == "kubernetes" and not PurePosixPath(self.root).is_absolute():
            raise ValueError(
                "root: pods and Airflow share it: expected an absolute path on a shared volume, "
                f"and no object store, found '{self.root}'"
            )
        return self
