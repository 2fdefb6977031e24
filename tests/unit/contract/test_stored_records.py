"""Documents that 0.1.0 left on storage: today's code reads all of what they say."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.errors import NotFoundError
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

# Fields that have another name since, by the document's class.
RENAMED = {"OptimizeRecord": {"runtime": "engine"}, "PackageManifest": {"runtime": "engine"}}


def today(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return a stored document by today's names, with the version that these have."""
    names = RENAMED.get(name, {})
    changed = {names.get(key, key): value for key, value in document.items()}
    return changed | ({"record_version": 2} if names else {})


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


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[A-Z]*.json")), ids=lambda path: path.stem)
def test_a_stored_document_is_read_whole(path: Path) -> None:
    found = CLASSES[path.stem].read(path)
    before = today(path.stem, json.loads(path.read_text()))
    assert list(lost(before, found.model_dump(mode="json"))) == []


@pytest.mark.parametrize(("name", "renamed"), RENAMED.items())
def test_a_renamed_field_keeps_its_value(name: str, renamed: dict[str, str]) -> None:
    old = json.loads((FOLDER / f"{name}.json").read_text())
    found = CLASSES[name].read(FOLDER / f"{name}.json")
    for before, after in renamed.items():
        assert getattr(found, after).name == old[before]["name"] == "litert"


def test_the_engines_folder_of_an_old_package_is_read(tmp_path: Path) -> None:
    old = FOLDER / "runtime.json"
    shutil.copy(old, tmp_path)
    found = optimization.EngineFiles.of_folder(tmp_path)
    assert list(lost(json.loads(old.read_text()), found.model_dump(mode="json"))) == []


def test_a_folder_without_an_engine_is_refused_under_todays_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"engine\.json: no EngineFiles there"):
        optimization.EngineFiles.of_folder(tmp_path)


def test_every_result_of_a_step_has_a_stored_document() -> None:
    records = {name for name in CLASSES if name.endswith("Record") and name != "Record"}
    assert records <= {path.stem for path in FOLDER.glob("*.json")}
