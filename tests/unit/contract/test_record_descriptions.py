"""Every record of the contract says what it is, and every field of it what it means."""

import importlib
import pkgutil
import re

import pytest

from contract import records
from contract.records.record import Record

MODULES = [f"contract.records.{found.name}" for found in pkgutil.iter_modules(records.__path__)]
RECORDS = [
    found
    for name in MODULES
    for found in vars(importlib.import_module(name)).values()
    if isinstance(found, type) and issubclass(found, Record) and found.__module__ == name
]
FIELDS = [(one, name) for one in RECORDS for name in one.model_fields]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_is_described(record: type[Record]) -> None:
    assert re.fullmatch(r"[A-Z`].*[.]", (record.__doc__ or "").partition("\n")[0])


@pytest.mark.parametrize(
    ("record", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_field_is_described_by_a_sentence(record: type[Record], name: str) -> None:
    text = record.model_fields[name].description or ""
    assert re.fullmatch(r"['`\d\[A-Z].*[.)]", text, re.S), text
    assert len(text.split()) >= 2


def test_all_records_are_looked_at() -> None:
    assert len(FIELDS) > 250
    assert {"Result", "TrafficPlan", "PackageManifest", "Stack"} <= {r.__name__ for r in RECORDS}
