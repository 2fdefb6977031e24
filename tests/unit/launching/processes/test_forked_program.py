"""A supervised program runs as a fork, and to its supervisor is what a fresh one would be."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from contract.places import CODE_FOLDER
from launching.environment import component_environment
from launching.processes.forked_program import command_of
from launching.processes.warm_start import own_warm_parent

Launch = Callable[..., "subprocess.Popen[str]"]

WAITING = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
SAVING = """
import os, signal, sys, time
def save(signum, frame):
    os.write(1, b"saved\\n")  # `print` may be at work, and cannot be entered twice
    sys.exit(5)
signal.signal(signal.SIGTERM, save)
print(os.getpid(), flush=True)
time.sleep(600)
"""
STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
assert not pathlib.Path("alive").exists() or os.environ["N"] == "1"
print(os.getpid(), flush=True)
while True:
    pathlib.Path("alive").touch()
    time.sleep(0.01)
"""


def process_of(program: "subprocess.Popen[str]") -> psutil.Process:
    """Return the process whose number the program prints."""
    assert program.stdout is not None
    return psutil.Process(int(program.stdout.readline()))


TESTS = Path(__file__).resolve().parents[3]


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    log = tmp_path_factory.mktemp("warm") / "warm.log"
    with own_warm_parent(component_environment(os.environ, None), log, ("contract.errors",)) as one:
        yield one


@pytest.fixture
def launch_from(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    programs: list[subprocess.Popen[str]] = []

    def launch(parent: Path, script: str, **variables: str) -> "subprocess.Popen[str]":
        command = command_of(parent, (sys.executable, "-c", script))
        environment = {**os.environ, "PYTHONPATH": str(CODE_FOLDER), **variables}
        program = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        programs.append(program)
        return program

    yield launch
    for program in programs:
        program.kill()
        program.communicate()


@pytest.fixture(params=["fresh", "warm"])
def launch(
    request: pytest.FixtureRequest, launch_from: Launch, tmp_path: Path
) -> Callable[..., "subprocess.Popen[str]"]:
    """Launch both ways; what a fresh one says of that is read already."""
    if request.param == "warm":
        return lambda script, **v: launch_from(request.getfixturevalue("parent"), script, **v)

    def fresh(script: str, **variables: str) -> "subprocess.Popen[str]":
        program = launch_from(tmp_path / "none" / "parent.sock", script, **variables)
        assert program.stdout is not None
        said = program.stdout.readline()
        assert "INFO started as a fresh process: no answer at" in said
        return program

    return fresh


@pytest.mark.parametrize("code", [0, 2, 7])
def test_output_and_exit_code_are_the_programs(launch: Launch, code: int) -> None:
    program = launch(f"import os, sys; print('said in', os.getcwd()); sys.exit({code})")
    said, _ = program.communicate(timeout=60)
    assert said.startswith("said in /")
    assert program.returncode == code


def test_its_streams_can_be_changed_whatever_its_parent_has_there(launch: Launch) -> None:
    program = launch(
        "import sys; sys.stdout.reconfigure(errors='replace'); print('said', flush=True)"
    )
    said, _ = program.communicate(timeout=60)
    assert said == "said\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_and_shows_in_how_it_ends(
    launch: Launch, number: signal.Signals
) -> None:
    program = launch(f"import signal; signal.signal({number:d}, signal.SIG_DFL)\n{WAITING}")
    process = process_of(program)
    program.send_signal(number)
    assert program.wait(60) == -number
    assert has_ended(process)


def test_a_program_that_saves_at_sigterm_ends_with_its_own_code(launch: Launch) -> None:
    program = launch(SAVING)
    process_of(program)
    program.terminate()
    said, _ = program.communicate(timeout=60)
    assert (said, program.returncode) == ("saved\n", 5)


def test_a_killed_program_is_seen_as_killed(launch: Launch) -> None:
    program = launch(WAITING)
    process_of(program).kill()
    assert program.wait(60) == -signal.SIGKILL


def test_kill_9_of_the_supervised_process_ends_the_program(launch: Launch) -> None:
    program = launch(WAITING)
    process = process_of(program)
    program.kill()
    program.wait()
    wait_for(lambda: has_ended(process))


def test_the_next_start_waits_for_the_end_of_one_that_was_killed(
    launch_from: Launch, parent: Path, tmp_path: Path
) -> None:
    first = launch_from(parent, STUBBORN, N="1", SUPERVISOR_PROCESS_NAME="server-1")
    process = process_of(first)
    first.kill()
    wait_for((tmp_path / "alive").exists)
    look = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); from alive import is_alive\n"
        f"print(is_alive({process.pid}))"
    )
    second = launch_from(parent, look, SUPERVISOR_PROCESS_NAME="server-1")
    said, _ = second.communicate(timeout=60)
    assert said == "False\n"


def test_kill_9_of_the_guard_loses_the_program_which_ends(
    launch_from: Launch, parent: Path
) -> None:
    program = launch_from(parent, WAITING)
    process = process_of(program)
    guard = process.parent()
    assert guard is not None
    guard.kill()
    assert program.wait(60) == -signal.SIGKILL
    wait_for(lambda: has_ended(process))


def test_kill_9_of_the_warm_parent_leaves_the_program_running(
    launch_from: Launch, tmp_path: Path
) -> None:
    others = set(psutil.Process().children())
    environment = component_environment(os.environ, None)
    with own_warm_parent(environment, tmp_path / "log", ("contract.errors",)) as socket:
        program = launch_from(socket, SAVING)
        process = process_of(program)
        (warm,) = {*psutil.Process().children()} - others - {psutil.Process(program.pid)}
        warm.kill()
        warm.wait()
        assert process.is_running()
        program.terminate()
        said, _ = program.communicate(timeout=60)
        assert (said, program.returncode) == ("saved\n", 5)


def test_where_no_lock_can_be_made_the_program_is_a_fresh_process(
    launch_from: Launch, tmp_path: Path
) -> None:
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm" / "programs").write_text("a file where the locks' folder belongs")
    program = launch_from(tmp_path / "warm" / "parent.sock", "print('done')")
    said, _ = program.communicate(timeout=60)
    first, second = said.splitlines()
    assert "INFO started as a fresh process: [Errno 17] File exists" in first
    assert (second, program.returncode) == ("done", 0)


def test_a_program_that_is_not_of_this_python_becomes_a_fresh_process(
    launch_from: Launch, parent: Path
) -> None:
    command = command_of(parent, ("/bin/sh", "-c", "echo $$"))
    with subprocess.Popen(command, cwd=CODE_FOLDER, stdout=subprocess.PIPE, text=True) as program:
        said, _ = program.communicate(timeout=60)
    first, second = said.splitlines()
    assert "started as a fresh process: '/bin/sh' is not a command of this Python" in first
    assert int(second) == program.pid
