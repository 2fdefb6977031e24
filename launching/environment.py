"""What a component process of this machine runs in: its root, its packages, its variables."""

import os
from collections.abc import Mapping
from pathlib import Path

from contract.loader import load_runtime, state_folder
from contract.places import CODE_FOLDER
from contract.schema.runtime import RuntimeConfig
from contract.staging.scratch import is_object_root, scratch_of
from contract.storage import local_path

_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}


def current_runtime(environment: Mapping[str, str] = os.environ) -> RuntimeConfig:
    """Return the runtime that SLIPWAY_RUNTIME names; `local` without it."""
    return load_runtime(environment.get("SLIPWAY_RUNTIME") or "local")


def artifact_root(runtime: RuntimeConfig, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the artifact root: the runtime's, or one in the state folder."""
    return local_path(runtime.root) if runtime.root else state_folder(environment) / "artifacts"


def run_root(runtime: RuntimeConfig, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where local runs work: the artifact root, or the scratch folder of an object store."""
    if is_object_root(runtime.root):
        return scratch_of(runtime.root, environment)
    return artifact_root(runtime, environment)


def may_fork(is_warm: bool, packages: Path | None) -> bool:
    """Tell whether a step may be a fork of a warm parent: that has the project's packages alone.

    Args:
        is_warm: Whether processes start warm here, by `starts_warm`.
        packages: Where the pipeline's own packages are installed; None if it has none.
    """
    return is_warm and packages is None


def starts_warm(runtime: RuntimeConfig) -> bool:
    """Tell whether component processes of this machine start as forks of a warm parent."""
    if runtime.processes.start == "auto":
        return runtime.kind == "local" and not _has_gpu()
    return runtime.processes.start == "warm"


def component_environment(base: Mapping[str, str], packages: Path | None) -> dict[str, str]:
    """Return the variables of a component process.

    Everything of `base` but Airflow's own (its settings hold secrets, and users' code runs here)
    and the name of a program of supervisord: `forked_program` would take what a component starts
    for that program started again, and end what another component has started by that name. The
    project and then the pipeline's own packages come first on PYTHONPATH. It writes and reads
    UTF-8, whatever the locale of this process.
    """
    kept = {k: v for k, v in base.items() if not k.lstrip("_").startswith("AIRFLOW_")}
    kept.pop("SUPERVISOR_PROCESS_NAME", None)
    own = [str(CODE_FOLDER), *([str(packages)] if packages else [])]
    others = [p for p in base.get("PYTHONPATH", "").split(os.pathsep) if p and p not in own]
    without_gpu = {} if _has_gpu() else {"CUDA_VISIBLE_DEVICES": "-1"}
    return {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **huge_pages(base),
        **without_gpu,
        **kept,
        "PYTHONPATH": os.pathsep.join([*own, *others]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }


def huge_pages(base: Mapping[str, str]) -> dict[str, str]:
    """Return what lets a Python have its heap in huge pages, but for what `base` has set.

    The kernel gives them to who asks. glibc asks for its own heap alone, which Python has only with
    PYTHONMALLOC. On a virtual machine, where small pages are expensive, a process that imports much
    starts in 0.5 to 0.9 of the CPU time (docs/figures.md).
    """
    return {name: value for name, value in _HUGE_PAGES.items() if name not in base}


def _has_gpu() -> bool:
    """Tell whether this machine has an NVIDIA device; TensorFlow complains loudly of none."""
    return Path("/dev/nvidiactl").exists()
