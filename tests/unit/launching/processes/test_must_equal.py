"""Whom a warm parent serves: processes that have in common with it what a request cannot carry."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from launching.processes.confinement import confinement
from launching.processes.fork_request import ForkRequest
from launching.processes.must_equal import difference
from launching.processes.process_start import ProcessStart

STARTER = """
import os, sys
from pathlib import Path
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
start = ProcessStart((sys.executable, "-c", "print('done')"), dict(os.environ), Path.cwd())
process = StepProcess(start, Path("lock"), Path(sys.argv[1]))
print(*process.lines(lambda: None), sep="\\n")
sys.exit(process.wait())
"""


@pytest.fixture
def request_of() -> ForkRequest:
    start = ProcessStart((sys.executable, "-c", "pass"), dict(os.environ), CODE_FOLDER)
    return ForkRequest.of(start)


def said_by_starter(parent: Path, folder: Path, *wrapper: str) -> list[str]:
    """Start a process from a starter that a command wraps; return the lines of the process."""
    environment = {**os.environ, "PYTHONPATH": str(CODE_FOLDER), "PYTHONUNBUFFERED": "1"}
    command = [*wrapper, sys.executable, "-c", STARTER, str(parent)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_starter_like_the_parent_is_served(bare_parent: Path, tmp_path: Path) -> None:
    assert said_by_starter(bare_parent, tmp_path) == ["done"]


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (["setpriv", "--no-new-privs"], "it has another set of privileges"),
        (["prlimit", "--as=30000000000"], "its memory would count against RLIMIT_AS"),
        (["prlimit", "--data=30000000000"], "its memory would count against RLIMIT_DATA"),
        (["chrt", "--batch", "0"], "it has another scheduling policy"),
        (["choom", "-n", "500", "--"], "it has another oom_score_adj"),
        (["env", "TMPDIR=/var/tmp"], "it was started with another TMPDIR"),
        (["env", "XDG_CACHE_HOME=/x", "GCS_READ_CACHE_BLOCK_SIZE_MB=1"], "another GCS_"),
        (["env", "MLFLOW_LOGGING_LEVEL=DEBUG"], "it was started with another MLFLOW_LOGGING_LEVEL"),
    ],
)
def test_a_starter_with_other_bounds_gets_a_fresh_process_within_them(
    bare_parent: Path, tmp_path: Path, wrapper: list[str], reason: str
) -> None:
    first, last = said_by_starter(bare_parent, tmp_path, *wrapper)
    assert "INFO started as a fresh process: " in first
    assert reason in first
    assert last == "done"


@pytest.mark.parametrize(
    "name", ["control group", "set of namespaces", "user or group", "root folder"]
)
def test_a_bound_that_differs_is_named(request_of: ForkRequest, name: str) -> None:
    assert name in confinement()
    other = replace(request_of, bounds={**request_of.bounds, name: "another"})
    assert difference(other, request_of.environment) == f"it has another {name}"


def test_equal_processes_differ_in_nothing(request_of: ForkRequest) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    free = replace(request_of, limits={"RLIMIT_AS": unlimited, "RLIMIT_DATA": unlimited})
    assert difference(free, request_of.environment) == ""


def test_what_the_imports_have_set_may_be_asked_for(request_of: ForkRequest) -> None:
    started = {k: v for k, v in request_of.environment.items() if k != "MPLBACKEND"}
    fork = replace(request_of, environment={**started, "MPLBACKEND": "agg"})
    assert difference(fork, started, {**started, "MPLBACKEND": "agg"}) == ""
    refused = "it was started with another MPLBACKEND"
    assert difference(fork, started, {**started, "MPLBACKEND": "svg"}) == refused
    assert difference(fork, started, started) == refused


def test_a_shells_own_variables_need_not_be_equal(request_of: ForkRequest) -> None:
    other = {**request_of.environment, "PWD": "/x", "SHLVL": "7", "TERM": "dumb", "OLDPWD": "/y"}
    assert difference(request_of, other) == ""
