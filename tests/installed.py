"""Environments with the wheel installed; the checkout is on the path of none of them."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UV = [sys.executable, "-m", "uv"]


def user_environment() -> dict[str, str]:
    """Return the variables of somebody who has never heard of this checkout."""
    ours = ("SLIPWAY_", "AIRFLOW_", "MLFLOW_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "UV_SYSTEM_CERTS": "1", "UV_LINK_MODE": "copy"}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel in it."""

    path: Path

    @property
    def site_packages(self) -> Path:
        """Where the wheel is installed."""
        return self.path / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"

    @property
    def code(self) -> Path:
        """Where the wheel puts our packages."""
        return self.site_packages / "slipway" / "_code"

    def run(
        self, program: str, *arguments: str, cwd: Path, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of its programs in a folder, with more variables."""
        folders = [str(self.path / "bin"), *os.get_exec_path()]
        variables: Mapping[str, str] = {**user_environment(), "PATH": os.pathsep.join(folders)}
        return subprocess.run(
            [str(self.path / "bin" / program), *arguments],
            cwd=cwd,
            env={**variables, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


def uv(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run uv as its users do."""
    return subprocess.run(
        [*UV, *arguments], env=user_environment(), capture_output=True, text=True, check=False
    )


def make_environment(path: Path) -> Environment:
    """Make an environment without any package."""
    made = uv("venv", "--quiet", "--python", sys.executable, str(path))
    assert made.returncode == 0, made.stderr
    return Environment(path)
