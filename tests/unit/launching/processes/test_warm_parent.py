"""A warm parent that refuses, changes, dies; what it has forked goes on."""

import json
import os
import signal
import socket as connections
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from launching.processes import fork_request, warm_start
from launching.processes.fork_request import GO, ForkRequest, received
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import (
    ForkedProcess,
    NotWarmError,
    fork,
    own_warm_parent,
    parent_command,
    preloaded_for,
)

PROJECT = Path(__file__).parents[4]


@contextmanager
def parent_of(folder: Path, *modules: str) -> Iterator[tuple[Path, psutil.Process]]:
    """A warm parent's socket and process."""
    where = folder / "warm" / "parent.sock"
    command = parent_command(where, modules or ("contract.errors",))
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(where.exists)
            yield where, psutil.Process(process.pid)
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def start_of(script: str, folder: Path) -> ProcessStart:
    return ProcessStart((sys.executable, "-c", script), dict(os.environ), folder, 1.0)


def run(start: ProcessStart, parent: Path) -> tuple[int, list[str]]:
    process = StepProcess(start, start.folder / "lock", parent)
    lines = list(process.lines(lambda: None))
    return process.wait(), lines


def lock_in(folder: Path) -> int:
    return os.open(folder / "lock", os.O_RDWR | os.O_CREAT)


def test_what_was_forked_outlives_its_parent_and_reports_its_exit_code(tmp_path: Path) -> None:
    waiting = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nos._exit(7)"
    with parent_of(tmp_path) as (socket, parent):
        process = StepProcess(start_of(waiting, tmp_path), tmp_path / "lock", socket)
        parent.kill()
        parent.wait()
        (tmp_path / "go").touch()
        assert list(process.lines(lambda: None)) == []
        assert process.wait() == 7


def test_without_a_parent_the_process_is_a_fresh_one_and_its_log_says_so(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, parent):
        parent.kill()
        parent.wait()
        code, lines = run(start_of("print('done')", tmp_path), socket)
    assert (code, lines[1:]) == (0, ["done"])
    assert "INFO started as a fresh process: no answer at" in lines[0]
    assert "Connection refused" in lines[0]


def test_a_parent_killed_before_it_answers_has_started_nothing(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, parent):
        parent.suspend()
        timer = threading.Timer(0.3, parent.kill)
        timer.start()
        code, lines = run(start_of("open('ran', 'a').write('x')", tmp_path), socket)
    assert code == 0
    assert "started as a fresh process: the warm parent ended before it forked" in lines[0]
    assert (tmp_path / "ran").read_text() == "x"


@contextmanager
def asked(parent: Path, start: ProcessStart) -> Iterator[tuple[connections.socket, psutil.Process]]:
    """A starter that has asked for a fork and read nothing; the guard has answered it."""
    connection = connections.socket(connections.AF_UNIX, connections.SOCK_SEQPACKET)
    nothing = os.open(os.devnull, os.O_RDWR)
    with connection:
        connection.connect(str(parent))
        message = ForkRequest.of(start).encoded()
        connections.send_fds(connection, [message], (nothing, nothing))
        os.close(nothing)
        said = connection.recv(1000, connections.MSG_PEEK)
        yield connection, psutil.Process(json.loads(said)["pid"])


def test_a_starter_that_has_left_before_it_read_the_answer_has_started_nothing(
    tmp_path: Path,
) -> None:
    with parent_of(tmp_path) as (socket, _):
        with asked(socket, start_of("open('ran', 'w')", tmp_path)) as (_, guard):
            pass
        wait_for(lambda: not guard.is_running() or guard.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "ran").exists()


def test_nothing_starts_before_the_starter_knows_of_it(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        start = start_of("open('ran', 'w')", tmp_path)
        with asked(socket, start) as (connection, guard):
            time.sleep(0.3)
            assert guard.children() == []
            connection.send(GO)
            wait_for((tmp_path / "ran").exists)


def test_a_parent_that_hangs_is_given_up_and_starts_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_start, "_ANSWER_SECONDS", 0.2)
    with parent_of(tmp_path) as (socket, parent):
        parent.suspend()
        code, lines = run(start_of("open('ran', 'a').write('x')", tmp_path), socket)
        assert code == 0
        assert "INFO started as a fresh process: no answer at" in lines[0]
        parent.resume()
        assert run(start_of("print('served')", tmp_path), socket) == (0, ["served"])
        wait_for(lambda: not parent.children())
    assert (tmp_path / "ran").read_text() == "x"


def test_one_answer_is_enough_for_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, guards = connections.socketpair(connections.AF_UNIX, connections.SOCK_SEQPACKET)
    process = ForkedProcess(ours, os.getpid(), None)
    has_received = threading.Event()

    def slowly(connection: connections.socket) -> dict[str, Any]:
        answer = received(connection)
        has_received.set()
        time.sleep(0.2)
        return answer

    monkeypatch.setattr(warm_start, "received", slowly)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.wait)
        guards.send(b'{"exit_code": 7}')
        guards.close()
        has_received.wait(20)
        assert process.poll() in (None, 7)
        assert waiting.result(20) == 7
    assert (process.poll(), process.wait()) == (7, 7)


def test_a_process_whose_guard_is_killed_is_lost_and_not_done(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        process = StepProcess(start_of(script, tmp_path), tmp_path / "lock", socket)
        command = psutil.Process(int(next(process.lines(lambda: None))))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_for(lambda: not command.is_running() or command.status() == psutil.STATUS_ZOMBIE)


def test_a_parent_older_than_the_code_refuses_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parent_of(tmp_path) as (socket, parent):
        monkeypatch.setattr(fork_request, "code_digest", lambda: "newer")
        with pytest.raises(NotWarmError, match="code, the lock file or a package has changed"):
            fork(socket, start_of("", tmp_path), lock_in(tmp_path))
        assert parent.wait(20) == 0
        assert not socket.exists()


def test_the_codes_digest_changes_with_a_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_request, "CODE_FOLDER", tmp_path)
    (tmp_path / "components").mkdir()
    module = tmp_path / "components" / "a.py"
    module.write_text("1")
    before = fork_request.code_digest()
    module.write_text("22")
    assert fork_request.code_digest() != before


def test_the_codes_digest_changes_with_a_file_of_equal_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_request, "CODE_FOLDER", tmp_path)
    (tmp_path / "components").mkdir()
    module = tmp_path / "components" / "a.py"
    module.write_text("1")
    was, before = module.stat(), fork_request.code_digest()
    time.sleep(0.02)  # a file's times have the clock's ticks
    module.write_text("2")
    os.utime(module, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert fork_request.code_digest() != before


def test_a_variable_that_libraries_read_at_their_import_must_be_equal(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, parent):
        start = start_of("import os; print(os.environ['OMP_NUM_THREADS'])", tmp_path)
        other = replace(start, environment={**start.environment, "OMP_NUM_THREADS": "77"})
        code, lines = run(other, socket)
        assert (code, lines[1:]) == (0, ["77"])
        assert "it was started with another OMP_NUM_THREADS" in lines[0]
        assert parent.is_running()  # the next may have the usual ones


def test_a_safe_path_stays_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    with parent_of(tmp_path) as (socket, _):
        start = start_of("import sys; print(sys.path[0])", tmp_path)
        assert run(start, socket) == (0, [str(PROJECT)])


def test_any_other_variable_is_the_commands_own(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        start = start_of("import os; print(os.environ['MINE'], 'HOME' in os.environ)", tmp_path)
        mine = replace(start, environment={**start.environment, "MINE": "é\udcff"})
        script = replace(
            mine, command=(sys.executable, "-c", "import os; print(ascii(os.environ['MINE']))")
        )
        assert run(script, socket) == (0, [r"'\xe9\udcff'"])


def test_what_an_import_set_in_the_environment_is_set_in_the_fork(tmp_path: Path) -> None:
    with parent_of(tmp_path, "components") as (socket, _):
        start = start_of("import os; print(os.environ.get('TF_USE_LEGACY_KERAS'))", tmp_path)
        assert run(start, socket) == (0, ["0"])


def test_libraries_log_in_a_fork_as_in_a_component_that_imports_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "likes_logging.py").write_text(
        "import logging\n"  # what TensorFlow does, and what tf.Transform does
        "logger = logging.getLogger('likes_logging')\n"
        "if not logging.getLogger().handlers: logger.addHandler(logging.StreamHandler())\n"
        "logging.warning('is imported')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{tmp_path}")
    script = (
        "import logging, likes_logging\n"
        "logging.basicConfig(format='once: %(message)s')\n"
        "likes_logging.logger.warning('said')"
    )
    with parent_of(tmp_path, "likes_logging") as (socket, _):
        assert run(start_of(script, tmp_path), socket) == (0, ["once: said"])


def test_a_command_of_another_program_is_a_fresh_process(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        start = replace(start_of("", tmp_path), command=("/bin/echo", "hello"))
        code, lines = run(start, socket)
    assert (code, lines[1:]) == (0, ["hello"])
    assert "'/bin/echo' is not a command of this Python" in lines[0]


def test_a_request_that_is_not_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parent_of(tmp_path) as (socket, parent):
        whole = ForkRequest.of(start_of("", tmp_path)).encoded()
        odd = json.dumps({**json.loads(whole), "environment": ["a"]}).encode()
        for message in (b"not JSON", b"{}", b'{"command": 3}', odd):
            monkeypatch.setattr(ForkRequest, "encoded", lambda _, said=message: said)
            with pytest.raises(NotWarmError, match="JSONDecodeError|TypeError|AttributeError"):
                fork(socket, start_of("", tmp_path), lock_in(tmp_path))
        monkeypatch.undo()
        assert run(start_of("print('still here')", tmp_path), socket) == (0, ["still here"])
        assert parent.is_running()


def test_a_folder_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        gone = replace(start_of("", tmp_path), folder=tmp_path / "gone")
        with pytest.raises(NotWarmError, match="FileNotFoundError"):
            fork(socket, gone, lock_in(tmp_path))


def test_the_fork_shows_its_command_and_keeps_the_parents_environment_block(
    tmp_path: Path,
) -> None:
    with parent_of(tmp_path) as (socket, parent):
        script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        process = StepProcess(start_of(script, tmp_path), tmp_path / "lock", socket)
        pid = int(next(process.lines(lambda: None)))
        assert Path(f"/proc/{pid}/cmdline").read_text().startswith("python -c import os, time;")
        assert psutil.Process(pid).environ() == parent.environ()  # who ends orphans reads it
        process.stop()


def test_numpys_generator_differs_from_fork_to_fork(tmp_path: Path) -> None:
    with parent_of(tmp_path, "numpy") as (socket, _):
        draw = start_of("import numpy; print(numpy.random.rand())", tmp_path)
        assert len({run(draw, socket)[1][0] for _ in range(3)}) == 3


@pytest.mark.parametrize("is_importing", [True, False])
def test_a_fork_collects_garbage_although_its_parent_does_not_while_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_importing: bool
) -> None:
    (tmp_path / "takes_long.py").write_text("import time; time.sleep(2)")
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{tmp_path}")
    modules = ["takes_long"] if is_importing else []
    with parent_of(tmp_path, "contract.errors", *modules) as (socket, _):
        asked = "import gc; print(gc.isenabled())"
        assert run(start_of(asked, tmp_path), socket) == (0, ["True"])


SLOW_IMPORT = """
import pathlib, time
pathlib.Path("{folder}/is_importing").touch()
while not pathlib.Path("{folder}/go").exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize("is_signalled", [True, False], ids=["SIGTERM", "owner gone"])
def test_a_parent_that_imports_ends_without_the_imports_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_signalled: bool
) -> None:
    (tmp_path / "takes_long.py").write_text(SLOW_IMPORT.format(folder=tmp_path))
    (tmp_path / "never.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{tmp_path}")
    where = tmp_path / "warm" / "parent.sock"
    command = parent_command(where, ("takes_long", "never"), is_tied=True)
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE) as process:
        try:
            wait_for((tmp_path / "is_importing").exists)
            if is_signalled:
                process.terminate()
            else:
                assert process.stdin is not None
                process.stdin.close()
                (tmp_path / "go").touch()
            assert process.wait(20) == 0
            assert not where.parent.exists()
        finally:
            process.kill()


def test_a_request_that_is_too_large_says_so(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        many = {f"MINE_{number}": "x" * 100_000 for number in range(11)}
        start = start_of("import os; print(len(os.environ['MINE_10']))", tmp_path)
        code, lines = run(replace(start, environment={**start.environment, **many}), socket)
    assert (code, lines[1:]) == (0, ["100000"])
    assert "its command and variables take 1,1" in lines[0]


def test_only_this_user_reaches_the_socket(tmp_path: Path) -> None:
    with parent_of(tmp_path) as (socket, _):
        assert socket.stat().st_mode & 0o777 == 0o600
        assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_mlflow_is_imported_only_where_a_run_is_tracked() -> None:
    tracked = preloaded_for({"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"})
    assert set(tracked) - set(preloaded_for({})) == {"mlflow"}
    assert preloaded_for({})[0] == "apache_beam"  # the first component need not import it itself


def test_a_socket_deeper_than_an_address_is_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with parent_of(deep) as (socket, _):
        assert run(start_of("print('deep')", deep), socket) == (0, ["deep"])


def test_a_parent_of_ones_own_ends_with_its_owner(tmp_path: Path) -> None:
    script = (
        "import os, time; from pathlib import Path\n"
        "from launching.processes.warm_start import own_warm_parent\n"
        "with own_warm_parent(dict(os.environ), Path(os.environ['LOG']), ['enum']) as p:\n"
        "    print(p, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "LOG": str(tmp_path / "log")}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        socket = Path(owner.stdout.readline().decode().strip())
        assert socket.exists()
        (parent,) = psutil.Process(owner.pid).children()
        owner.kill()
    parent.wait(20)
    assert not socket.parent.exists()


def test_sixteen_at_once_and_a_hundred_in_a_row_leave_nothing_open(tmp_path: Path) -> None:
    with own_warm_parent(dict(os.environ), tmp_path / "log", ["contract.errors"]) as socket:

        def one(number: int) -> int:
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            return run(start_of(f"raise SystemExit({number})", folder), socket)[0]

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(one, range(16))) == list(range(16))
        (parent,) = (p for p in psutil.Process().children() if str(socket) in " ".join(p.cmdline()))
        wait_for(lambda: not parent.children())
        before, own = parent.num_fds(), psutil.Process().num_fds()
        for _ in range(100):
            assert one(3) == 3
        wait_for(lambda: not parent.children())
        assert (parent.num_fds(), psutil.Process().num_fds()) == (before, own)
