"""What a killed program has left behind is ended before its next start, and nothing else."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from alive import is_alive

from serving.supervisord import alone

# A program with two workers, one of which is at something: each prints its process id.
PROGRAM = """
import os, subprocess, sys, time
idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
busy = subprocess.Popen([sys.executable, "-c", "import subprocess;"
    "child = subprocess.Popen(['sleep', '60']); print(flush=True); child.wait()"],
    stdout=subprocess.PIPE)
busy.stdout.readline()
print(os.getpid(), idle.pid, busy.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start(tmp_path: Path, which: str, started: list[subprocess.Popen[str]]) -> list[int]:
    """Start the program as supervisord does; return its process ids: its own, idle, busy."""
    command = [sys.executable, "-I", alone.__file__, str(tmp_path / "group"), which]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    started.append(process)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert pids[0] == process.pid, "it has become the command"
    return pids


@pytest.mark.parametrize(("which", "busy_lives"), [("all", False), ("idle", True)])
def test_remains_of_the_last_start_are_ended_first(tmp_path, started, which, busy_lives) -> None:
    _, idle, busy = start(tmp_path, which, started)
    started[0].kill()
    started[0].wait()
    assert is_alive(idle)
    second = start(tmp_path, which, started)
    assert not is_alive(idle)
    assert is_alive(busy) is busy_lives
    assert all(is_alive(pid) for pid in second)


def test_what_serves_on_is_ended_when_another_answers_and_nothing_is_under_way(
    tmp_path, started
) -> None:
    first = start(tmp_path, "all", started)
    seen = []

    class Another(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, [is_alive(pid) for pid in first]))
            self.send_response(503 if len(seen) == 1 else 200)
            self.end_headers()
            self.wfile.write(f"requests: {int(len(seen) < 4)}\n".encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Another) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        second = start(tmp_path, f"after:{here}/ready,{here}/stats?filter=^active$", started)
        server.shutdown()
    paths = ["/ready", "/ready", "/stats?filter=^active$", "/stats?filter=^active$"]
    assert seen == [(path, [True] * 3) for path in paths]
    started[0].wait()
    assert not any(map(is_alive, first))
    assert all(map(is_alive, second))


def test_a_note_is_of_this_boot_and_says_when_its_leader_began(tmp_path) -> None:
    file = tmp_path / "group"
    alone.note(file, os.getpid())
    found = alone.noted(file)
    assert found is not None
    pid, ticks, session = found
    assert (pid, session) == (os.getpid(), os.getsid(0))
    began = psutil.boot_time() + ticks / os.sysconf("SC_CLK_TCK")
    assert began == pytest.approx(psutil.Process().create_time(), abs=1.0)
    _, *numbers = file.read_text().split()
    for text in (" ".join(["another-boot", *numbers]), "", "another-boot 7"):
        file.write_text(text)
        assert alone.noted(file) is None, text
    assert alone.noted(tmp_path / "absent") is None


def test_a_group_of_the_number_in_another_session_is_somebody_elses() -> None:
    script = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid)"
    leader = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, process_group=0
    )
    orphan = int(leader.communicate()[0])
    try:
        assert alone.of_group((leader.pid, 1, os.getsid(0))) == [orphan]
        assert alone.of_group((leader.pid, 1, os.getsid(0) + 1)) == []
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_session_whose_leader_lives_is_nobodys_orphan() -> None:
    leader = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert alone.of_session((leader.pid, 1, leader.pid)) == []
    finally:
        leader.kill()
        leader.wait()


# A session's leader with a program and, in groups of their own, a worker of it and somebody who
# does not hear SIGTERM; none has an environment.
SESSION = """
import os, signal, subprocess
os.setsid()
def start(*command):
    options = dict(stdout=subprocess.PIPE, env={}, process_group=0)
    return subprocess.Popen(command, **options)
deaf = start("/bin/sh", "-c", "trap '' TERM; echo; sleep 60")
deaf.stdout.readline()
print(os.getpid(), start("/bin/sleep", "60").pid, deaf.pid)
"""


@pytest.fixture
def orphans(tmp_path: Path) -> Iterator[tuple[alone.Leader, alone.Leader, int]]:
    """Return the leader of a session that is gone, its noted program, and one more process."""
    ran = subprocess.run(
        [sys.executable, "-c", SESSION], stdout=subprocess.PIPE, text=True, check=True
    )
    session, program, deaf = map(int, ran.stdout.split())
    alone.note(tmp_path / "program", program)
    noted = alone.noted(tmp_path / "program")
    assert noted is not None
    yield (session, 1, session), noted, deaf
    for pid in (program, deaf):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def test_while_a_noted_program_lives_all_of_its_session_are_orphans(orphans) -> None:
    leader, program, deaf = orphans
    found = alone.of_session(leader, [program])
    assert {program[0], deaf} <= set(found)
    alone.end(lambda: alone.of_session(leader, [program]), grace_seconds=0.3)
    until(lambda: not any(map(is_alive, found)))


def test_without_one_the_number_may_have_been_given_again(orphans) -> None:
    leader, (pid, started, session), deaf = orphans
    assert alone.of_session(leader, [(pid, started + 1, session)]) == [pid], "its group"
    assert alone.of_session(leader, [(pid, started, session + 1)]) == []
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    assert alone.of_session(leader, [(pid, started, session)]) == []
    assert is_alive(deaf)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
