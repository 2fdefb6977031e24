"""What a killed program has left behind is ended before its next start, and nothing else."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


# Starts what it is told as supervisord does, says its process id, and waits to be killed.
SUPERVISOR = """
import subprocess, sys, time
process = subprocess.Popen(sys.argv[1:], process_group=0)
print(process.pid, flush=True)
process.wait()
time.sleep(60)
"""
ADOPT = "adopt:as-before:0.5"


def supervise(
    tmp_path: Path, which: str, started: list[subprocess.Popen[str]], program: str = PROGRAM
) -> list[int]:
    """Start a supervisor with the program; return the ids of its child and what the program said.

    A child that has adopted the program says so instead.
    """
    command = [sys.executable, "-I", alone.__file__, str(tmp_path / "group"), which]
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, *command, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    started.append(process)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    return [int(word) for word in " ".join(lines).split() if word.isdecimal()]


def kill_supervisor(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)


def test_a_program_outlives_its_supervisors_and_each_next_one_adopts_it(tmp_path, started) -> None:
    program, *_ = first = supervise(tmp_path, ADOPT, started)
    for _ in range(2):
        kill_supervisor(started[-1])
        keeper, adopted = supervise(tmp_path, ADOPT, started)
        assert adopted == program != keeper
        assert all(map(is_alive, first))
    kill_supervisor(started[-1])
    until_gone(keeper)
    assert all(map(is_alive, first))
    alone.end(lambda: alone.of_running(alone.noted(tmp_path / "group") or (0, 0, 0)))


def test_a_signal_to_its_keeper_stops_an_adopted_program(tmp_path, started) -> None:
    program, *_ = first = supervise(tmp_path, ADOPT, started)
    kill_supervisor(started[-1])
    keeper, adopted = supervise(tmp_path, ADOPT, started)
    assert adopted == program
    os.kill(keeper, signal.SIGTERM)
    until_gone(*first)


def test_an_adopted_program_that_ignores_the_signal_is_killed_in_time(tmp_path, started) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PROGRAM
    program, *_ = supervise(tmp_path, ADOPT, started, deaf)
    kill_supervisor(started[-1])
    keeper, _ = supervise(tmp_path, ADOPT, started, deaf)
    os.kill(keeper, signal.SIGTERM)
    until_gone(program)


def test_what_another_command_has_started_is_ended_and_not_adopted(tmp_path, started) -> None:
    first = supervise(tmp_path, ADOPT, started)
    kill_supervisor(started[-1])
    second = supervise(tmp_path, "adopt:otherwise:0.5", started)
    assert not any(map(is_alive, first))
    assert len(second) == len(first)
    assert all(map(is_alive, second))
    alone.end(lambda: alone.of_running(alone.noted(tmp_path / "group") or (0, 0, 0)))


def test_a_program_whose_keeper_is_killed_is_started_again(tmp_path, started) -> None:
    """So a supervisor ends one that hangs; here one supervisor starts it twice."""
    twice = SUPERVISOR.replace("time.sleep(60)", "").strip() + "\n"
    both = f"{twice}{twice}time.sleep(60)"
    command = [sys.executable, "-I", alone.__file__, str(tmp_path / "group"), ADOPT]
    first = supervise(tmp_path, ADOPT, started)
    kill_supervisor(started[-1])
    process = subprocess.Popen(
        [sys.executable, "-c", both, *command, sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    started.append(process)
    assert process.stdout is not None
    keeper = int(process.stdout.readline())
    assert str(first[0]) in process.stdout.readline(), "adopted"
    os.kill(keeper, signal.SIGKILL)
    second = [int(word) for _ in range(2) for word in process.stdout.readline().split()][1:]
    assert not any(map(is_alive, first))
    assert all(map(is_alive, second))
    alone.end(lambda: alone.of_running(alone.noted(tmp_path / "group") or (0, 0, 0)))


def test_a_program_is_kept_where_its_note_cannot_be_written(tmp_path, started) -> None:
    """As on a full disk: to start the program beside itself would only meet its own port."""
    program, *_ = supervise(tmp_path, ADOPT, started)
    kill_supervisor(started[-1])
    before = (tmp_path / "group").read_text()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); {SUPERVISOR}"
    command = [sys.executable, "-I", alone.__file__, str(tmp_path / "group"), ADOPT]
    process = subprocess.Popen(
        [sys.executable, "-c", limited, *command, sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    started.append(process)
    assert process.stdout is not None
    keeper = int(process.stdout.readline())
    until(lambda: signals_taken(keeper))
    assert is_alive(program)
    assert (tmp_path / "group").read_text() == before
    os.kill(keeper, signal.SIGTERM)
    until_gone(program, keeper)


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


def signals_taken(pid: int) -> bool:
    """Tell whether a process has its own answer to SIGTERM."""
    words = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return bool(int(words["SigCgt"], 16) & 1 << signal.SIGTERM - 1)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
