"""The wheel, and two environments it is installed in."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from installed import UV, Environment, make_environment, uv

ROOT = Path(__file__).resolve().parents[3]
# uv's words where it cannot reach the index
UNREACHABLE = ("Failed to fetch", "error sending request", "dns error")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution, as `make wheel` does."""
    folder = tmp_path_factory.mktemp("dist")
    command = [*UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("slipway-*.whl")
    return built


@pytest.fixture(scope="session")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel that sees the packages of the lock file."""
    environment = make_environment(tmp_path_factory.mktemp("whole") / "venv")
    locked = environment.site_packages / "locked.pth"  # .pth files that lie there are not read
    locked.write_text(sysconfig.get_path("purelib") + "\n")
    python = str(environment.path / "bin" / "python")
    done = uv("pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, str(wheel))
    assert done.returncode == 0, done.stderr
    return environment


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what it asks for, nothing else; skips without a network."""
    environment = make_environment(tmp_path_factory.mktemp("bare") / "venv")
    command = ["pip", "install", "--quiet", "--python", str(environment.path / "bin" / "python")]
    lock = str(ROOT / "requirements" / "lock.txt")
    done = uv(*command, "--constraint", lock, str(wheel))
    if any(words in done.stderr for words in UNREACHABLE):
        pytest.skip(f"the base dependencies cannot be fetched: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return environment
