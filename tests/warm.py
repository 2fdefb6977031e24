"""One warm parent for each process that runs tests: components start as its forks.

A fresh component imports TensorFlow, Keras and Beam for 3 CPU seconds before it works; a fork has
them. Tests of what a fresh process does start their own. `lend` makes a state folder look as
`slipway up` leaves it: whoever looks for a warm parent there finds this one.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from contract.programs import MODEL_SERVER, program_command
from launching.environment import component_environment
from launching.processes.forked_program import command_of
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import own_warm_parent, preloaded_for, reason_against, socket_of

# Of libraries that this process has imported; with them no component could be a fork.
SET_BY_LIBRARIES = frozenset({"MPLBACKEND", "TF_USE_LEGACY_KERAS"})


def environment_of(**ours: str) -> dict[str, str]:
    """Return the variables of a component; without ours nothing is tracked and no agent known."""
    services = ("SLIPWAY_", "MLFLOW_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(services)}
    return component_environment({**without_libraries_own(kept), **ours}, None)


def without_libraries_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that libraries have set in this process."""
    return {k: v for k, v in environment.items() if k not in SET_BY_LIBRARIES}


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a warm parent."""
    environment = environment_of()
    log = tmp_path_factory.mktemp("warm") / "warm-parent.log"
    with own_warm_parent(environment, log, preloaded_for(environment)) as where:
        yield where


def await_warm(warm_parent: Path) -> None:
    """Wait until the warm parent forks for this process, whose libraries have set variables too."""
    environment = component_environment(os.environ, None)
    until = time.monotonic() + 120
    while reason := reason_against(warm_parent, environment):
        assert time.monotonic() < until, reason
        time.sleep(0.1)


def lend(warm_parent: Path, home: Path) -> None:
    """Let a state folder have the warm parent, as if `slipway up` had started it."""
    socket_of(home).parent.mkdir(parents=True, exist_ok=True)
    socket_of(home).symlink_to(warm_parent)


@contextlib.contextmanager
def inherited_environment() -> Iterator[None]:
    """Let what is started meanwhile inherit none of the variables that libraries set here.

    With them, a service's children would differ from the warm parent, which would not fork them.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in SET_BY_LIBRARIES:
            patch.delenv(name, raising=False)
        yield


def server_command(warm_parent: Path, home: Path) -> tuple[str, ...]:
    """Return the command of a stack's model servers: forks, their locks in the stack's folder."""
    lend(warm_parent, home)
    return command_of(socket_of(home), program_command(MODEL_SERVER))


def run(
    warm_parent: Path, command: Sequence[str], lock: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end as a fork; return its exit code and what it said."""
    start = ProcessStart((sys.executable, *command[1:]), environment, CODE_FOLDER)
    process = StepProcess(start, lock, warm_parent)
    said = "\n".join(process.lines(lambda: None))
    return process.wait(), said
