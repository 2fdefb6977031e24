"""Documents that 0.1.0 left on storage: today's code reads all of what they say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.freshness import Fingerprint
from contract.records import data, evaluation, optimization, package, record, traffic, training
from contract.records.record import Record

FOLDER = Path(__file__).parent / "stored_0_1_0"
MODULES = (data, evaluation, optimization, package, record, traffic, training)
CLASSES = {"Fingerprint": Fingerprint} | {
    name: found
    for module in MODULES
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, Record)
}


def lost(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield where a document's values are no longer what they were; new keys are no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key, "nothing"), f"{place}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from lost(old, new, f"{place}[{number}]")
    elif before != after:
        yield f"{place}: {before!r} became {after!r}"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_stored_document_is_read_whole(path: Path) -> None:
    found = CLASSES[path.stem].read(path)
    assert list(lost(json.loads(path.read_text()), found.model_dump(mode="json"))) == []


def test_every_result_of_a_step_has_a_stored_document() -> None:
    records = {name for name in CLASSES if name.endswith("Record") and name != "Record"}
    assert records <= {path.stem for path in FOLDER.glob("*.json")}
