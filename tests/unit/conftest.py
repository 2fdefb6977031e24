"""What unit tests of several folders need."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stub_api import StubApi


@pytest.fixture
def make_wheel() -> Callable[[Path, str], None]:
    """Write the smallest wheel (PEP 427) of a version into a folder: one module, `shoelace`."""

    def make(folder: Path, version: str) -> None:
        folder.mkdir(exist_ok=True)
        info = f"shoelace-{version}.dist-info"
        with zipfile.ZipFile(folder / f"shoelace-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("shoelace.py", f"VERSION = {version!r}\n")
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: shoelace\nVersion: {version}\n"
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    return make


@pytest.fixture
def api(tmp_path: Path) -> Iterator[StubApi]:
    """An API server that has nothing, until it is told what to answer."""
    with StubApi(tmp_path) as started:
        yield started
