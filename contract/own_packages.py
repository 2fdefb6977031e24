"""A pipeline's own packages: its `requirements.txt`, installed once per content.

`python -m contract.own_packages PIPELINE -- COMMAND` installs those of a pipeline's folder for
this container, and becomes the command with them on its path.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from contract.errors import ConfigError, ServiceUnavailableError, SlipwayError
from contract.places import CODE_FOLDER
from contract.private_files import private_folder
from contract.programs import program_command
from contract.storage import exclusive_lock, publish_directory

REQUIREMENTS = "requirements.txt"

_UV_CANNOT_RESOLVE = 1  # uv's exit code for "no"; 2 and above are uv's own troubles (network, disk)
_SHOWN_LINES = 12
_OF_INSTALLING = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "USER", "NETRC", "REQUESTS_CA_BUNDLE"}
)
_GROUPS_OF_INSTALLING = (
    *("UV_", "PIP_", "LC_", "SSL_CERT_", "XDG_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)


def install_requirements(pipeline: Path, home: Path) -> Path | None:
    """Install a pipeline's `requirements.txt` once per content; return where, None without one.

    The lock file of the checkout, or what is installed where Slipway came as a wheel, constrains
    the versions, so that the pipeline's packages cannot pull in another TensorFlow than the one
    that the components import.

    Raises:
        ConfigError: If the requirements contradict themselves or the lock.
        ServiceUnavailableError: If they could not be fetched.
    """
    requirements = pipeline / REQUIREMENTS
    if not requirements.exists():
        return None
    content = requirements.read_bytes() + sys.version.encode()
    target = home / "environments" / hashlib.sha256(content).hexdigest()[:16]
    with exclusive_lock(target.with_suffix(".lock")):
        if not target.exists():
            with publish_directory(target) as temporary, _constraints() as constraints:
                label = f"{pipeline.name}/{REQUIREMENTS}"
                _install(requirements, constraints, temporary, label)
        os.utime(target)  # housekeeping removes what is not used
    return target


def with_own_packages(pipeline: Path, python: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs another one with a pipeline's own packages, if it has any."""
    if not (pipeline / REQUIREMENTS).exists():
        return tuple(command)
    return (*program_command("contract.own_packages", python), str(pipeline), "--", *command)


def installed_versions() -> set[str]:
    """Return a line `name==version` for every installed package but our own."""
    found = {one.name: one.version for one in metadata.distributions() if one.name}
    return {f"{name}=={version}\n" for name, version in found.items() if name != "slipway"}


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


def main(arguments: Sequence[str]) -> None:
    """Become the command; exit code and words of the error if the packages cannot be had."""
    pipeline, _, *command = arguments
    os.environ.setdefault("UV_NO_CACHE", "1")  # it would be there twice, until the container ends
    try:
        home = private_folder(Path(tempfile.gettempdir()) / f"slipway-{os.geteuid()}")
        packages = install_requirements(Path(pipeline), home)
    except SlipwayError as error:
        print(error, file=sys.stderr)  # noqa: T201 (nobody has a log yet)
        raise SystemExit(error.exit_code) from error
    paths = (str(CODE_FOLDER), str(packages or ""), os.environ.get("PYTHONPATH", ""))
    path = os.pathsep.join(filter(None, paths))
    os.execvpe(command[0], command, {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    main(sys.argv[1:])
