"""Every kind of source has a reader, with the functions that all of them have."""

from importlib import import_module
from inspect import signature

import pytest

from components.ingest.sources.source import SourceModule
from contract.schema.data import SOURCE_KINDS

FUNCTIONS = ("files", "columns", "read", "size_bytes")


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_every_kind_has_a_reader_with_the_four_functions(kind: str) -> None:
    module = import_module(f"components.ingest.sources.{kind}")
    for name in FUNCTIONS:
        own = list(signature(getattr(module, name)).parameters)
        assert own == list(signature(getattr(SourceModule, name)).parameters)[1:]
