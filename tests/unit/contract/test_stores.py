"""Stores on a disk and in fsspec's memory: the same promises."""

import errno
import threading
from pathlib import Path

import pytest

from contract.errors import ConfigError, StorageError
from contract.stores import FolderStore, ObjectStore, Store


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path)
    return ObjectStore(f"memory://{tmp_path.name}")


def test_only_the_first_creates(store: Store) -> None:
    assert store.create("a/1", "first")
    assert not store.create("a/1", "second")
    assert store.read("a/1") == "first"


def test_the_same_content_again_counts_as_created(store: Store) -> None:
    """An answer that got lost: the writer tries again and finds its own."""
    assert store.create("a/1", "mine")
    assert store.create("a/1", "mine")


def test_of_eight_threads_one_creates(store: Store) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if store.create("a/1", str(number)):
            won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(n) for n in won] == [store.read("a/1")]


def test_writing_replaces(store: Store) -> None:
    store.write("b", "1")
    store.write("b", "2")
    assert store.read("b") == "2"


def test_names_are_those_directly_below(store: Store) -> None:
    store.create("a/1", "x")
    store.create("a/2.released", "x")
    store.create("a/b/3", "x")
    assert store.names("a") == {"1", "2.released", "b"}
    assert store.names("nowhere") == frozenset()
    assert store.read("nowhere/1") is None


def test_what_is_being_written_has_no_name_yet(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.create("a/1", "x")
    (tmp_path / "a" / ".1.tmp").write_text("half")
    assert store.names("a") == {"1"}


def test_later_writes_have_later_times(store: Store) -> None:
    store.write("a", "1")
    store.write("b", "2")
    assert store.written_at("b") >= store.written_at("a") > 1e9


def test_a_scheme_that_nobody_knows_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="store 'nowhere://x': cannot be opened: Protocol not"):
        ObjectStore("nowhere://x")


def test_a_refusal_that_names_no_condition_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of servers that do not say which condition failed, s3fs makes an OSError of the 412."""
    from fsspec.implementations.memory import MemoryFileSystem

    store = ObjectStore("memory://refusal-without-a-condition")
    store.write("lease", "another's")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "At least one of the pre-conditions did not hold")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    assert not store.create("lease", "mine")
    assert store.create("lease", "another's")
    with pytest.raises(StorageError, match="lease-2: cannot create"):
        store.create("lease-2", "mine")


def test_a_store_that_does_not_answer_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def gone(*_: object, **__: object) -> None:
        raise RuntimeError("could not connect\nmore")

    for name in ("pipe_file", "cat_file", "ls", "modified"):
        monkeypatch.setattr(MemoryFileSystem, name, gone)
    store = ObjectStore("memory://gone")
    for call in (
        lambda: store.create("a", "1"),
        lambda: store.write("a", "1"),
        lambda: store.read("a"),
        lambda: store.names("a"),
        lambda: store.written_at("a"),
    ):
        with pytest.raises(StorageError, match=r"/gone/a: .*: could not connect$"):
            call()
