"""The programs of serving that supervisord keeps: the agent, and one server a version.

Those of a traffic backend are in its module in `serving/agent/backends/`.
"""

import sys

from contract.places import CODE_FOLDER
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import Program

AGENT = "agent"
SERVER_PREFIX = "slipway-server-"

# A server imports TensorFlow and warms its model before it answers; one that dies within this
# time of its start counts as failed to start, and after three of those supervisord gives up.
_SERVER_START_SECONDS = 15
_DRAIN_MARGIN_SECONDS = 5


def agent_program(settings: MachineSettings) -> Program:
    """Return the program that runs the agent."""
    return Program(
        name=AGENT,
        command=(sys.executable, "-m", "serving.agent", *settings.arguments()),
        log_file=settings.logs_folder / "agent.log",
        directory=CODE_FOLDER,
        priority=200,
        stop_wait_seconds=10,
    )


def server_name(pipeline: str, version: int) -> str:
    """Return the name of a model server's program."""
    return f"{SERVER_PREFIX}{pipeline}-{version}"


def parse_server_name(name: str) -> tuple[str, int] | None:
    """Return pipeline and version of a model server's program; None for any other program."""
    if not name.startswith(SERVER_PREFIX):
        return None
    pipeline, _, version = name.removeprefix(SERVER_PREFIX).rpartition("-")
    return pipeline, int(version)


def server_program(
    settings: MachineSettings, name: str, command: tuple[str, ...], drain_seconds: float
) -> Program:
    """Return the program that runs one model server."""
    return Program(
        name=name,
        command=command,
        log_file=settings.logs_folder / f"{name}.log",
        directory=CODE_FOLDER,
        start_seconds=_SERVER_START_SECONDS,
        is_adopted=True,
        stop_wait_seconds=round(drain_seconds) + _DRAIN_MARGIN_SECONDS,
    )
