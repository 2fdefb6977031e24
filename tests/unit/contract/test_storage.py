"""All or nothing, one winner, one owner: also with threads, kills and a full disk."""

import errno
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.errors import (
    EXIT_UNEXPECTED,
    EXIT_USER_ERROR,
    ConfigError,
    ConflictError,
    DiskFullError,
    StorageError,
)
from contract.places import CODE_FOLDER
from contract.storage import (
    Attempt,
    create_exclusively,
    digest_bytes,
    digest_directory,
    digest_file,
    exclusive_lock,
    local_path,
    publish_directory,
    size_bytes,
    sole_lock,
    storage_errors,
    write_atomically,
)


def test_a_published_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    with publish_directory(target) as temporary:
        (temporary / "part").write_text("1")
        assert not target.exists()

    assert (target / "part").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_failed_publication_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    with publish_directory(target) as temporary:
        (temporary / "part").write_text("old")

    with pytest.raises(RuntimeError, match="half way"), publish_directory(target) as temporary:
        (temporary / "part").write_text("new")
        raise RuntimeError("half way")

    assert (target / "part").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_full_disk_publishes_nothing_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "artifact"

    with (
        pytest.raises(
            DiskFullError, match=r"artifact: disk full; nothing .*\d+ bytes free"
        ) as full,
        publish_directory(target) as temporary,
    ):
        (temporary / "part").write_text("1")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert list(tmp_path.iterdir()) == []
    assert full.value.exit_code == EXIT_USER_ERROR


def test_a_disk_that_fills_while_a_tree_is_copied_says_so_too(tmp_path: Path) -> None:
    full = shutil.Error([("a", "b", "[Errno 28] No space left on device")])

    with pytest.raises(DiskFullError, match="disk full"), publish_directory(tmp_path / "artifact"):
        raise full


def test_other_refusals_of_a_disk_may_be_tried_again(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="cannot write: Input/output error") as refused,
        storage_errors(tmp_path / "artifact"),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert refused.value.exit_code == EXIT_UNEXPECTED


def _publish_slowly(target: Path) -> None:
    with publish_directory(target) as temporary:
        (temporary / "part").write_text("half")
        (target.parent / "started").touch()
        time.sleep(60)


def test_kill_9_in_the_middle_leaves_nothing_after_the_next_attempt(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    process = multiprocessing.get_context("fork").Process(target=_publish_slowly, args=(target,))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not target.exists()

    with publish_directory(target) as temporary:
        (temporary / "part").write_text("whole")

    assert (target / "part").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifact", "started"]


def test_only_one_of_many_creates_a_file(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda n: create_exclusively(path, str(n)), range(64)))

    assert sum(created) == 1
    assert path.read_text() == str(created.index(True))
    assert [p.name for p in tmp_path.iterdir()] == ["verdict.json"]


def test_readers_see_old_or_new_content_only(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_atomically(path, "a" * 100_000)

    def read(_: int) -> set[str]:
        return set(path.read_text())

    with ThreadPoolExecutor(8) as pool:
        seen = pool.map(read, range(200))
        for letter in "bcdefgh":
            write_atomically(path, letter * 100_000)

    assert all(len(letters) == 1 for letters in seen)


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(_: int) -> None:
        with exclusive_lock(tmp_path / "lock"):
            value = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(value + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))

    assert counter.read_text() == "40"


HOLD = """
import sys, time
from pathlib import Path
from contract.storage import sole_lock
with sole_lock(Path(sys.argv[1]), "agent", "stop it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_sole_lock_names_its_holder_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=CODE_FOLDER, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        held = rf"lock: held by agent, process {holder.pid} on {socket.gethostname()}; stop it$"
        with pytest.raises(ConflictError, match=held), sole_lock(path, "agent", "stop it"):
            pass
        holder.kill()
    with sole_lock(path, "other", ""):
        assert path.read_text() == f"other, process {os.getpid()} on {socket.gethostname()}"


def test_a_later_attempt_fences_off_the_earlier(tmp_path: Path) -> None:
    first = Attempt.claim(tmp_path / "train")
    first.check()
    second = Attempt.claim(tmp_path / "train")

    second.check()
    with pytest.raises(ConflictError, match="attempt 1 of train was overtaken by attempt 2"):
        first.check()


def test_attempts_claimed_at_once_all_differ(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = [a.number for a in pool.map(lambda _: Attempt.claim(tmp_path / "a"), range(24))]

    assert sorted(numbers) == list(range(1, 25))


def test_digests_tell_content_and_names_apart(tmp_path: Path) -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_bytes(b"") == empty
    (tmp_path / "a").write_text("")
    assert digest_file(tmp_path / "a") == empty

    before = digest_directory(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = digest_directory(tmp_path)
    (tmp_path / "result.json").write_text("{}")

    assert before != renamed
    assert digest_directory(tmp_path) == renamed
    assert size_bytes(tmp_path) == 2


def test_an_object_store_is_refused_as_root(tmp_path: Path) -> None:
    assert local_path(f"file://{tmp_path}") == tmp_path
    assert local_path(str(tmp_path)) == tmp_path
    with pytest.raises(ConfigError, match="expected a local path"):
        local_path("memory://bucket/x")
