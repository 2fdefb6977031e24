"""Paths of stores: named as URLs, taken apart as paths."""

import pickle
from pathlib import Path

import pytest

from components.data.remote_files import RemotePath, source_path
from components.data.source_columns import partition_columns
from contract.errors import DataError


def test_a_path_of_a_store_is_its_url() -> None:
    path = source_path("s3://bucket/year=2024/rows.csv")
    assert str(path) == f"{path}" == "s3://bucket/year=2024/rows.csv"
    assert (path.name, str(path.parent)) == ("rows.csv", "s3://bucket/year=2024")
    assert partition_columns(path) == {"year": "2024"}
    assert sorted([path, RemotePath.of("s3://bucket/a")])[1] == path


def test_a_path_of_a_store_travels_to_workers() -> None:
    path = RemotePath.of("http://host:8000/rows.csv?page=1")
    sent = pickle.loads(pickle.dumps(path))
    assert (type(sent), str(sent)) == (RemotePath, "http://host:8000/rows.csv?page=1")


def test_other_paths_are_of_this_machine() -> None:
    assert type(source_path("/data/s3/rows.csv")) is type(Path("/data/s3/rows.csv"))


@pytest.mark.parametrize("url", ["s3://bucket//rows.csv", "s3://bucket/./rows.csv", "s3:///rows"])
def test_names_that_no_path_has_are_refused(url: str) -> None:
    with pytest.raises(DataError, match="expected names between single slashes"):
        RemotePath.of(url)


def test_files_of_stores_are_only_read() -> None:
    with pytest.raises(ValueError, match="are read as bytes only, not 'wb'"):
        RemotePath.of("s3://bucket/rows.csv").open("wb")
