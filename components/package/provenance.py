"""Where a package comes from: code, data and libraries."""

import platform
import subprocess
from importlib import metadata

from contract.errors import NotFoundError
from contract.layout import RunLayout
from contract.loader import pipeline_digest
from contract.places import workspace
from contract.records.package import Provenance
from contract.records.record import Result

_LIBRARIES = (
    "slipway",
    "tensorflow",
    "keras",
    "tensorflow-transform",
    "apache-beam",
    "numpy",
    "openvino",
    "ai-edge-litert",
)
_DATA_STEPS = ("ingest", "transform")


def provenance_of(run: RunLayout) -> Provenance:
    """Describe the run: commit of the checkout, digests of config and data, library versions."""
    return Provenance(
        run_id=run.run_id,
        git_commit=git_commit(),
        data_digests={"pipeline": pipeline_digest(run), **_data_digests(run)},
        versions=library_versions(),
    )


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that shape a model."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """Return the workspace's commit, with `-dirty` if files differ; empty without git.

    In a checkout that is the commit of the code, too; an installed Slipway is named by its version.
    """
    commit = _git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git("status", "--porcelain") else commit


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=workspace(),
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def _data_digests(run: RunLayout) -> dict[str, str]:
    digests: dict[str, str] = {}
    for step in _DATA_STEPS:
        try:
            result = Result.read(run.result(step))
        except NotFoundError:
            continue
        digests |= {f"{step}/{name}": a.digest for name, a in result.artifacts.items()}
    return digests
