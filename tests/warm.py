"""One warm parent for each process that runs tests: components start as its forks.

A fresh component imports TensorFlow, Keras and Beam for 3 CPU seconds before it works; a fork has
them. Tests of what a fresh process does start their own. `lend` makes a state folder look as
`slipway up` leaves it: whoever looks for a warm parent there finds this one.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from launching.environment import component_environment
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import own_warm_parent, preloaded_for, socket_of

# Of libraries that this process has imported; with them no component could be a fork.
SET_BY_LIBRARIES = frozenset({"MPLBACKEND", "TF_USE_LEGACY_KERAS"})


def environment_of(**ours: str) -> dict[str, str]:
    """Return the variables of a component; without ours nothing is tracked and no agent known."""
    services = ("SLIPWAY_", "MLFLOW_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(services)}
    kept = {k: v for k, v in kept.items() if k not in SET_BY_LIBRARIES}
    return component_environment({**kept, **ours}, None)


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a warm parent."""
    environment = environment_of()
    log = tmp_path_factory.mktemp("warm") / "warm-parent.log"
    with own_warm_parent(environment, log, preloaded_for(environment)) as where:
        yield where


def lend(warm_parent: Path, home: Path) -> None:
    """Let a state folder have the warm parent, as if `slipway up` had started it."""
    socket_of(home).parent.mkdir(parents=True)
    socket_of(home).symlink_to(warm_parent)


def run(
    warm_parent: Path, command: Sequence[str], lock: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end as a fork; return its exit code and what it said."""
    start = ProcessStart((sys.executable, *command[1:]), environment, CODE_FOLDER)
    process = StepProcess(start, lock, warm_parent)
    said = "\n".join(process.lines(lambda: None))
    return process.wait(), said
