"""Marks each test by its folder, and gives all of them a quiet, private environment."""

import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; their support is found so
pytest_plugins = ["must_run", "durations", "side_by_side", "thorough", "warm", "leftovers"]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# A shell's background job ignores Ctrl-C, and so would all that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Wrong answers fail a property, a busy machine does not.
settings.register_profile("slipway", deadline=None)
settings.load_profile("slipway")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while the test files are imported: a quarter of their CPU, for nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in ("integration", "e2e", "cluster", "browser"):
            item.add_marker(getattr(pytest.mark, folder))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _private_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("SLIPWAY_", "MLFLOW_", "AIRFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "slipway-home"))


@pytest.fixture(autouse=True)
def _own_log() -> None:
    """Undo what a library's logging configuration, read in this process, did to our logger."""
    logging.disable(logging.NOTSET)
    log = logging.getLogger("slipway")
    log.disabled, log.propagate = False, True
    log.setLevel(logging.INFO)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets, or a skip that says what is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data sets (census, mnist) are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of so many bytes (`64k`); skips where the machine does not allow that."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("a small disk cannot be mounted here (needs root and CAP_SYS_ADMIN)")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
