import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from alive import is_alive

from launching.processes.process_start import ProcessStart
from launching.processes.step_locks import is_held, locked_inodes
from launching.processes.step_process import StepProcess, note_holder, take_lock


class Start(Protocol):
    """Starts a script, fresh or warm."""

    def __call__(
        self, script: str, folder: Path, lock: str = "lock", grace_seconds: float = 5.0
    ) -> StepProcess: ...


@pytest.fixture
def start(warm_parent: Path | None, environment: dict[str, str]) -> Start:
    def start(
        script: str, folder: Path, lock: str = "lock", grace_seconds: float = 5.0
    ) -> StepProcess:
        command = (sys.executable, "-c", script)
        how = ProcessStart(command, environment, folder, grace_seconds)
        return StepProcess(how, folder / lock, warm_parent)

    return start


def nothing() -> None:
    pass


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def test_lines_arrive_while_the_command_still_runs(start: Start, tmp_path: Path) -> None:
    waiting = (
        "import os, time; print('first', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "print('second')"
    )
    process = start(waiting, tmp_path)
    lines = process.lines(nothing)
    assert next(lines) == "first"
    (tmp_path / "go").touch()
    assert list(lines) == ["second"]
    assert process.wait() == 0


def test_output_to_both_streams_bad_bytes_and_a_missing_last_newline_are_kept(
    start: Start,
    tmp_path: Path,
) -> None:
    script = r"import sys; sys.stdout.buffer.write(b'10%\r100%\n\xff'); sys.stdout.flush()"
    process = start(script, tmp_path)
    assert list(process.lines(nothing)) == ["100%", "�"]
    process = start("import sys; print('complaint', file=sys.stderr)", tmp_path)
    assert list(process.lines(nothing)) == ["complaint"]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(2)", 2),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
    ],
)
def test_the_exit_code_is_the_commands(
    start: Start, script: str, code: int, tmp_path: Path
) -> None:
    process = start(script, tmp_path)
    list(process.lines(nothing))
    assert process.wait() == code


def test_an_uncaught_error_is_told_as_the_interpreter_tells_it(
    start: Start, tmp_path: Path
) -> None:
    process = start("def fail(): raise ValueError('wrong')\nfail()", tmp_path)
    assert list(process.lines(nothing)) == [
        "Traceback (most recent call last):",
        '  File "<string>", line 2, in <module>',
        '  File "<string>", line 1, in fail',
        "ValueError: wrong",
    ]
    assert process.wait() == 1


def test_the_commands_own_hook_tells_of_an_uncaught_error(start: Start, tmp_path: Path) -> None:
    script = "import sys; sys.excepthook = lambda *what: print('hook', what[1]); raise OSError('x')"
    process = start(script, tmp_path)
    assert list(process.lines(nothing)) == ["hook x"]
    assert process.wait() == 1


def test_the_command_has_its_streams_and_its_lock_open_and_nothing_else(
    start: Start, tmp_path: Path
) -> None:
    script = """
import os
for one in sorted(map(int, os.listdir("/proc/self/fd"))):
    if os.path.exists(f"/proc/self/fd/{one}"):  # not what has just listed them
        print(one if one < 3 else os.readlink(f"/proc/self/fd/{one}"))
"""
    process = start(script, tmp_path)
    assert list(process.lines(nothing)) == ["0", "1", "2", str(tmp_path / "lock")]


def test_a_starter_may_have_more_open_files_than_select_takes(start: Start, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"at most {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    nothing_ = os.open(os.devnull, os.O_RDONLY)
    opened = [nothing_, *(os.dup(nothing_) for _ in range(1100))]
    try:
        process = start("print('said')", tmp_path)
        assert list(process.lines(nothing)) == ["said"]
        assert process.wait() == 0
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_tick_is_called_while_the_command_is_silent(start: Start, tmp_path: Path) -> None:
    ticks: list[float] = []
    process = start("import time; time.sleep(2.5)", tmp_path)
    list(process.lines(lambda: ticks.append(time.monotonic())))
    assert 1 <= len(ticks) <= 3


FAMILY = """
import os, signal, time
child = os.fork()
with open(f"pid-{'child' if child == 0 else 'parent'}", "w") as file:
    file.write(str(os.getpid()))
print("ready", flush=True)
time.sleep(600)
"""


STUBBORN_FAMILY = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FAMILY}"


def family(folder: Path) -> list[int]:
    files = [folder / "pid-child", folder / "pid-parent"]
    wait_for(lambda: all(f.exists() and f.read_text() for f in files))
    return [int(f.read_text()) for f in files]


def test_stop_ends_the_whole_group_even_if_it_ignores_sigterm(start: Start, tmp_path: Path) -> None:
    process = start(STUBBORN_FAMILY, tmp_path, grace_seconds=0.2)
    pids = family(tmp_path)
    process.stop()
    wait_for(lambda: not any(map(is_alive, pids)))
    assert process.wait() != 0


# It takes the kernel a while to end a child of this size.
LARGE = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
is_made, made = os.pipe()
if os.fork() == 0:
    content = b"1" * (400 << 20)
    print("ready", flush=True)
    os.write(made, b".")
    time.sleep(600)
os.read(is_made, 1)
"""


@pytest.mark.parametrize("is_stopped", [False, True])
def test_nothing_holds_the_lock_after_the_end(
    start: Start, tmp_path: Path, is_stopped: bool
) -> None:
    script = f"{LARGE}time.sleep({600 if is_stopped else 0})"
    process = start(script, tmp_path, grace_seconds=0.1)
    assert next(process.lines(nothing)) == "ready"
    if is_stopped:
        process.stop()
    else:
        assert process.wait() == 0
    assert not is_held(tmp_path / "lock", locked_inodes())


@pytest.mark.parametrize(("grace_seconds", "is_saved"), [(30.0, True), (0.1, False)])
def test_what_a_command_does_on_sigterm_has_the_jobs_grace(
    start: Start, tmp_path: Path, grace_seconds: float, is_saved: bool
) -> None:
    script = """
import pathlib, signal, time
def save(*_):
    time.sleep(0.5)
    pathlib.Path("saved").touch()
    raise SystemExit(1)
signal.signal(signal.SIGTERM, save)
pathlib.Path("ready").touch()
time.sleep(600)
"""
    process = start(script, tmp_path, grace_seconds=grace_seconds)
    wait_for((tmp_path / "ready").exists)
    process.stop()
    assert process.wait() != 0
    assert (tmp_path / "saved").exists() == is_saved


def test_the_group_ends_when_its_starter_is_killed(
    warm_parent: Path | None, environment: dict[str, str], tmp_path: Path
) -> None:
    script = (
        "import os, sys, time; from pathlib import Path\n"
        "from launching.processes.process_start import ProcessStart\n"
        "from launching.processes.step_process import StepProcess\n"
        "folder, parent = Path(sys.argv[1]), Path(sys.argv[3]) if sys.argv[3] else None\n"
        "start = ProcessStart((sys.executable, '-c', sys.argv[2]), dict(os.environ), folder)\n"
        "process = StepProcess(start, folder / 'lock', parent)\n"
        "time.sleep(600)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path), FAMILY, str(warm_parent or "")]
    with subprocess.Popen(arguments, env=environment) as starter:
        pids = family(tmp_path)
        starter.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, pids)))


def test_a_later_process_of_the_same_lock_ends_the_earlier(start: Start, tmp_path: Path) -> None:
    earlier = start(FAMILY, tmp_path)
    pids = family(tmp_path)
    later = start("print('mine')", tmp_path)
    assert not any(map(is_alive, pids))
    assert list(later.lines(nothing)) == ["mine"]
    assert later.wait() == 0
    assert earlier.wait() != 0


def test_a_lock_that_is_taken_names_nobody_until_its_holder_is_known(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid():<20}")  # of a group that has ended long ago
    os.close(take_lock(tmp_path / "lock", 1.0))
    assert (tmp_path / "lock").read_text() == ""


def test_on_a_full_disk_a_lock_has_no_note_and_the_process_goes_on() -> None:
    full = os.open("/dev/full", os.O_RDWR)
    note_holder(full, 1)
    os.close(full)


def test_processes_of_different_locks_leave_each_other_alone(start: Start, tmp_path: Path) -> None:
    first = start("input_ = __import__('time').sleep(600)", tmp_path, "train.lock")
    second = start("pass", tmp_path, "evaluate.lock")
    assert second.wait() == 0
    assert is_alive(first.pid)
    first.stop()
