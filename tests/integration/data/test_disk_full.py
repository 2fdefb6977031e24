"""A disk that fills up while a step writes: the artifact is absent, not half there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.errors import DiskFullError

from .conftest import Workshop

SmallDisk = Callable[[str], Path]


def test_a_full_disk_leaves_no_examples(workshop: Workshop, small_disk: SmallDisk) -> None:
    rng = np.random.default_rng(0)
    lines = [f"30,{rng.bytes(60).hex()},w,<=50K" for _ in range(30_000)]
    data = workshop.root.parent / "people.csv"
    data.write_text("age,job,words,income\n" + "\n".join(lines) + "\n")
    workshop.files = {}
    workshop.config["ingest"]["source"]["files"] = [str(data)]
    workshop.root = small_disk("1m")
    with pytest.raises(DiskFullError, match=r"disk full; nothing was published .*bytes free"):
        workshop.run("ingest")
    assert not workshop.layout().step("ingest").exists()
    assert not workshop.layout().result("ingest").exists()
    leftovers = [p for p in workshop.layout().path.iterdir() if p.name.startswith(".ingest.tmp")]
    assert leftovers == []
