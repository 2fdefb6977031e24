"""A measuring process answers one request, as a fork and as a fresh process, and never stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from components.optimize.judging.bench_process import (
    BenchProcess,
    ForkedBench,
    FreshBench,
    in_fork,
    may_fork,
)
from contract.places import CODE_FOLDER

LOUD = "import sys; print(sys.stdin.readline().strip().upper())"
HANGING = "import sys, time; sys.stdin.readline(); time.sleep(600)"


def hang(request: str) -> str:
    del request
    time.sleep(600)
    return ""


def start(kind: str, *, is_hanging: bool) -> BenchProcess:
    if kind == "fork":
        return ForkedBench(hang if is_hanging else lambda request: request.strip().upper())
    return FreshBench([sys.executable, "-c", HANGING if is_hanging else LOUD])


@pytest.fixture(params=["fork", "fresh"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., BenchProcess]]:
    made: list[BenchProcess] = []

    def one(*, is_hanging: bool = False) -> BenchProcess:
        made.append(start(request.param, is_hanging=is_hanging))
        return made[-1]

    yield one
    for bench in made:
        bench.end()


def wait_for(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_true() and time.monotonic() < until:
        time.sleep(0.02)
    assert is_true()


def test_it_answers_one_request(make: Callable[..., BenchProcess]) -> None:
    assert make().ask("é and so on", 20.0) == "É AND SO ON\n"


def test_one_that_hangs_is_given_up(make: Callable[..., BenchProcess]) -> None:
    bench = make(is_hanging=True)
    with pytest.raises(TimeoutError, match="no answer within 0.2 s"):
        bench.ask("a", 0.2)
    bench.end()
    bench.end()
    assert not psutil.pid_exists(bench.pid)


def test_one_that_was_killed_before_the_request_says_nothing(
    make: Callable[..., BenchProcess],
) -> None:
    bench = make()
    psutil.Process(bench.pid).kill()
    wait_for(lambda: psutil.Process(bench.pid).status() == psutil.STATUS_ZOMBIE)
    try:
        said = bench.ask("a", 20.0)
    except BrokenPipeError:
        said = ""
    assert said == ""


def test_one_that_is_killed_over_its_answer_says_nothing(make: Callable[..., BenchProcess]) -> None:
    bench = make(is_hanging=True)
    threading.Timer(0.3, partial(os.kill, bench.pid, signal.SIGKILL)).start()
    assert bench.ask("a", 20.0) == ""


@pytest.mark.parametrize("is_asked", [False, True], ids=["waiting", "over its answer"])
@pytest.mark.parametrize("kind", ["fork", "fresh"])
def test_it_ends_when_its_starter_is_killed(kind: str, is_asked: bool) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_bench_process import start\n"
        f"bench = start({kind!r}, is_hanging=True)\n"
        "print(bench.pid, flush=True)\n"
        f"bench.ask('a', 600.0) if {is_asked} else time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=CODE_FOLDER, stdout=subprocess.PIPE) as starter:
        try:
            assert starter.stdout is not None
            bench = psutil.Process(int(starter.stdout.readline()))
            if kind == "fresh":  # `setpriv` ties it before the command begins
                python = os.path.realpath(sys.executable)
                wait_for(lambda: psutil.Process(bench.pid).exe() == python)
            time.sleep(0.2 * is_asked)
        finally:
            starter.kill()
    wait_for(lambda: not bench.is_running() or bench.status() == psutil.STATUS_ZOMBIE)


def test_a_fork_hands_back_what_it_found() -> None:
    assert in_fork(lambda: [os.getppid(), 0.5]) == [os.getpid(), 0.5]


def test_a_fork_that_fails_or_is_killed_hands_back_nothing() -> None:
    assert in_fork(lambda: 1 / 0) is None
    assert in_fork(lambda: os.kill(os.getpid(), signal.SIGKILL)) is None


def test_a_process_without_tensorflow_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert not may_fork()


def test_a_process_with_a_second_thread_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    is_over = threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()
    try:
        assert not may_fork()
    finally:
        is_over.set()
        thread.join()
