"""Real clusters for the tests: those of the repository's neighbour, or what the user has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# tests are no package; their support is found so
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "e2e"))
sys.path.insert(2, str(Path(__file__).parents[1] / "benchmarks"))

from clusters import SHARED, TestCluster, clusters_up
from images import loaded_image

CRDS = ("tfjobs.v1", "mpijobs.v2beta1", "pytorchjobs.v1")


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TestCluster]]:
    """The clusters `train` and `eval`, each with an empty namespace of this session."""
    with clusters_up(("train", "eval")) as up:
        yield up


@pytest.fixture(scope="session")
def kubeflow(clusters: dict[str, TestCluster]) -> TestCluster:
    """The cluster `train` with Kubeflow's definitions."""
    if SHARED.is_dir():
        files = [str(SHARED / "crds" / f"kubeflow.org_{name}.yaml") for name in CRDS]
        subprocess.run([SHARED / "install-crds", "train", *files], check=True, capture_output=True)
    elif "tfjobs" not in clusters["train"].kubectl("api-resources", "--api-group=kubeflow.org"):
        pytest.skip("the cluster has no Kubeflow definitions")
    return clusters["train"]


@pytest.fixture(scope="session")
def components_image(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> str | None:
    """The image of the components that SLIPWAY_TEST_IMAGE asks for, known to both clusters.

    `build`: built from this checkout, which takes a quarter of an hour; a tag: one that the nodes
    hold or can pull. Without it: none, and pods run this machine's Python.
    """
    asked = os.environ.get("SLIPWAY_TEST_IMAGE", "")
    if asked != "build":
        return asked or None
    return loaded_image("components", clusters, tmp_path_factory.mktemp("image"))
