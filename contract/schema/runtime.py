"""The typed form of `configs/runtimes/<name>.yaml`."""

from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.cluster import KubernetesConfig, ProcessJobConfig
from contract.schema.section import Count, Section


class ProcessesConfig(Section):
    """How component processes of this machine start."""

    start: Literal["auto", "warm", "fresh"] = Field(
        "auto",
        description="'warm': as forks of a process that has imported TensorFlow and Beam; 'fresh': "
        "as new interpreters; 'auto': warm, but fresh where an NVIDIA device is visible.",
    )


class RuntimeConfig(Section):
    """Where components run: `configs/runtimes/<name>.yaml`."""

    kind: Literal["local", "kubernetes"] = "local"
    root: str = Field("", description="Artifact root; '<state folder>/artifacts' if empty.")
    max_parallel_components: Count = 2
    job: ProcessJobConfig = Field(
        ProcessJobConfig(), description="Of kind 'local'; pods have theirs in 'kubernetes'."
    )
    processes: ProcessesConfig = Field(ProcessesConfig(), description="Of kind 'local' only.")
    kubernetes: KubernetesConfig | None = Field(None, description="Of kind 'kubernetes' only.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError("section 'kubernetes' belongs to kind 'kubernetes', and only there")
        if self.kind == "kubernetes" and "job" in self.model_fields_set:
            raise ValueError("section 'job' belongs to kind 'local'; expected kubernetes.job")
        if self.kind == "kubernetes" and "processes" in self.model_fields_set:
            raise ValueError("section 'processes' belongs to kind 'local'")
        if self.kind == "kubernetes" and not PurePosixPath(self.root).is_absolute():
            raise ValueError(
                "root: pods and Airflow meet there: expected an absolute path on a shared volume, "
                f"found '{self.root}'"
            )
        return self
