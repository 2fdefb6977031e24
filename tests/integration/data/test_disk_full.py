"""A disk that fills up while a step writes: the artifact is absent, not half there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.errors import StorageError

from .conftest import Workshop


@pytest.fixture
def small_disk(workshop: Workshop) -> Iterator[Path]:
    """Make the artifact root a disk of 1 MB, or skip where the machine does not allow that."""
    workshop.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(workshop.root)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield workshop.root
    subprocess.run(["umount", "-l", str(workshop.root)], check=True)


def test_a_full_disk_leaves_no_examples(workshop: Workshop, small_disk: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"30,{rng.bytes(60).hex()},w,<=50K" for _ in range(30_000)]
    data = small_disk.parent / "people.csv"
    data.write_text("age,job,words,income\n" + "\n".join(lines) + "\n")
    workshop.files = {}
    workshop.config["ingest"]["source"]["files"] = [str(data)]
    with pytest.raises(StorageError, match=r"disk full; nothing was published"):
        workshop.run("ingest")
    assert not workshop.layout().step("ingest").exists()
    assert not workshop.layout().result("ingest").exists()
    leftovers = [p for p in workshop.layout().path.iterdir() if p.name.startswith(".ingest.tmp")]
    assert leftovers == []
