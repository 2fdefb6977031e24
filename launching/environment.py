"""What a component process of this machine runs in: its root, its packages, its variables."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from contract.errors import ConfigError, ServiceUnavailableError
from contract.loader import load_runtime, state_folder
from contract.places import CODE_FOLDER
from contract.schema.runtime import RuntimeConfig
from contract.staging.scratch import is_object_root, scratch_of
from contract.storage import exclusive_lock, local_path, publish_directory

_UV_CANNOT_RESOLVE = 1  # uv's exit code for "no"; 2 and above are uv's own troubles (network, disk)
_SHOWN_LINES = 12
_OF_INSTALLING = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "USER", "NETRC", "REQUESTS_CA_BUNDLE"}
)
_GROUPS_OF_INSTALLING = (
    *("UV_", "PIP_", "LC_", "SSL_CERT_", "XDG_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)

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


def install_requirements(pipeline: Path, home: Path) -> Path | None:
    """Install a pipeline's `requirements.txt` once per content; return where, None without one.

    The lock file of the checkout, or what is installed where Slipway came as a wheel, constrains
    the versions, so that the pipeline's packages cannot pull in another TensorFlow than the one
    that the components import.

    Raises:
        ConfigError: If the requirements contradict themselves or the lock.
        ServiceUnavailableError: If they could not be fetched.
    """
    requirements = pipeline / "requirements.txt"
    if not requirements.exists():
        return None
    content = requirements.read_bytes() + sys.version.encode()
    target = home / "environments" / hashlib.sha256(content).hexdigest()[:16]
    with exclusive_lock(target.with_suffix(".lock")):
        if not target.exists():
            with publish_directory(target) as temporary, _constraints() as constraints:
                label = f"{pipeline.name}/requirements.txt"
                _install(requirements, constraints, temporary, label)
        os.utime(target)  # housekeeping removes what is not used
    return target


@contextmanager
def _constraints() -> Iterator[Path]:
    """Yield a file of `name==version` lines: the lock file, or what is installed here."""
    lock = CODE_FOLDER / "requirements" / "lock.txt"
    if lock.exists():
        yield lock
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(sorted(installed_versions()))
        file.flush()
        yield Path(file.name)


def installed_versions() -> set[str]:
    """Return a line `name==version` for every installed package but our own."""
    found = {one.name: one.version for one in metadata.distributions() if one.name}
    return {f"{name}=={version}\n" for name, version in found.items() if name != "slipway"}


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an installation needs, and no others."""
    return {
        name: value
        for name, value in environment.items()
        if name in _OF_INSTALLING or name.upper().startswith(_GROUPS_OF_INSTALLING)
    }


def _install(requirements: Path, constraints: Path, target: Path, label: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode"]
    command += ["--python", sys.executable, "--target", str(target), "-r", str(requirements)]
    # A source distribution is a program, which would run here, where Airflow's secrets are. Names
    # that a requirements file excepts (--no-binary NAME) are built all the same.
    command += ["-c", str(constraints), "--only-binary", ":all:"]
    # uv then trusts the machine's own certificate authorities too, as pip and Python do
    environment = {"UV_SYSTEM_CERTS": "1", **_without_secrets(os.environ)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        return
    said = "\n".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
    message = f"{label}: cannot be installed: {said}"
    if done.returncode == _UV_CANNOT_RESOLVE:
        raise ConfigError([message])
    raise ServiceUnavailableError(message)
