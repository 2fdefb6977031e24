"""What a pod needs for a pipeline's own packages, which are on the storage that all pods mount."""

from pathlib import Path

from contract.layout import RunLayout
from contract.schema.cluster import KubernetesConfig, PodConfig
from contract.storage import local_path
from launching.environment import install_requirements

_FOLDER = ".slipway"


def packages_home(root: str) -> Path:
    """Return the folder whose `environments` pods read."""
    return local_path(root) / _FOLDER


def with_packages(kubernetes: KubernetesConfig, run: RunLayout, root: str) -> KubernetesConfig:
    """Return the config with the pipeline's `requirements.txt`, if any, on each pod's path.

    They are installed once per content below the artifact root, by this process: pods may have no
    way to a package index.
    """
    packages = install_requirements(run.frozen_pipeline, packages_home(root))
    if packages is None:
        return kubernetes
    before = kubernetes.pod.environment.get("PYTHONPATH", "")
    path = ":".join(filter(None, (str(packages), before)))
    pod = kubernetes.pod.merged(PodConfig(environment={"PYTHONPATH": path}))
    return kubernetes.model_copy(update={"pod": pod})
