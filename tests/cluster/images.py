"""Building our images without a container engine, and giving them to the test clusters."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from clusters import ROOT, SHARED, TestCluster

_CONTENT = {
    "components": ("contract", "configs", "components", "serving"),
    "serving": ("contract", "serving"),
    "orchestrator": ("contract", "configs", "launching", "operators", "dags"),
}


def loaded_image(name: str, clusters: Mapping[str, TestCluster], folder: Path) -> str:
    """Return the tag of an image of this checkout that the clusters' nodes hold.

    It is built once per content: the tag is a digest of what goes into it.
    """
    if not SHARED.is_dir():
        pytest.skip("no builder for images here; SLIPWAY_TEST_IMAGE may name one")
    tag = f"localhost/slipway-{name}:{_digest(name)}"
    lacking = [c for c in clusters.values() if tag not in c.images()]
    if lacking:
        archive = folder / f"{name}.tar"
        _build(tag, name, archive)
        for cluster in lacking:
            subprocess.run([SHARED / "load-image", cluster.context, archive], check=True)
        archive.unlink()
    return tag


def _build(tag: str, name: str, archive: Path) -> None:
    subprocess.run([SHARED / "make-base-image"], check=True)
    dockerfile = ROOT / "docker" / f"{name}.Dockerfile"
    command = [SHARED / "build-image", tag, archive, "--layers", "-f", dockerfile, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _digest(name: str) -> str:
    digest = hashlib.sha256((ROOT / "docker" / f"{name}.Dockerfile").read_bytes())
    for part in (*_CONTENT[name], "requirements", "pyproject.toml"):
        path = ROOT / part
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
