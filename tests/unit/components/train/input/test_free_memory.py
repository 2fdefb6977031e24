"""The memory that is free is that of whatever has less: the machine or the container."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from components.train.input.free_memory import free_bytes

V2 = ("memory.max", "memory.current")
V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
NO_LIMIT = str(2**63 - 4096)  # as v1 says it


@pytest.mark.parametrize(
    ("names", "limit", "free"),
    [
        (V2, "700", 600),
        (V2, "max", 1000),
        (V2, "5000", 1000),
        (V2, "50", 0),  # it was lowered
        (V1, "700", 600),
        (V1, NO_LIMIT, 1000),
        ((), "", 1000),
    ],
)
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], limit: str, free: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    for name, content in zip(names, (limit, "100"), strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert free_bytes(tmp_path) == free
