"""Kinds of source: what they must declare, and what is read from it."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from contract.schema.data import CsvSource, IdxSource, SklearnSource
from contract.schema.section import Section
from contract.schema.source import (
    SourcePath,
    SourceSection,
    files_state,
    kinds_of,
    path_fields,
    shipped_state,
)


def test_a_kind_without_a_data_state_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'data_state'"):

        class TableSource(SourceSection):
            kind: Literal["table"]


def test_a_kind_with_the_state_of_its_files_must_have_some() -> None:
    message = "FileSource: has the state of its files, but no field is a path"
    with pytest.raises(TypeError, match=message):

        class FileSource(SourceSection, data_state=files_state):
            kind: Literal["file"]
            place: str


def test_a_path_that_is_no_text_is_refused() -> None:
    message = r"NumberSource\.place: a SourcePath is str or tuple\[str, \.\.\.\]"
    with pytest.raises(TypeError, match=message):

        class NumberSource(SourceSection, data_state=files_state):
            kind: Literal["number"]
            place: Annotated[int, SourcePath]


def test_a_section_that_is_no_source_is_refused_as_one() -> None:
    class BareSource(Section):
        kind: Literal["bare"]

    union = Annotated[CsvSource | BareSource, Field(discriminator="kind")]
    with pytest.raises(TypeError, match="BareSource: a source is a SourceSection"):
        kinds_of(union)


def test_paths_are_the_marked_fields_in_order_and_those_that_are_set() -> None:
    class PairSource(SourceSection, data_state=files_state):
        kind: Literal["pair"]
        rows: Annotated[tuple[str, ...], SourcePath]
        note: str
        names: Annotated[str | None, SourcePath] = None

    assert path_fields(PairSource) == ("rows", "names")
    alone = PairSource(kind="pair", rows=("a", "b"), note="n")
    assert alone.paths == ("a", "b")
    assert alone.model_copy(update={"names": "c"}).paths == ("a", "b", "c")
    assert IdxSource(kind="idx", images="i", labels="l").paths == ("i", "l")
    assert SklearnSource(kind="sklearn", dataset="wine").paths == ()


def test_a_kind_may_have_a_state_that_is_not_of_files() -> None:
    class TableSource(SourceSection, data_state=lambda source: [(source.table, "version 7")]):
        kind: Literal["table"]
        table: str

    assert TableSource(kind="table", table="sales").data_states() == {"sales": "version 7"}


def test_a_shipped_data_set_is_its_own_state() -> None:
    source = SklearnSource(kind="sklearn", dataset="wine")
    assert dict(shipped_state(source)) == {"wine": "shipped with a library"}
