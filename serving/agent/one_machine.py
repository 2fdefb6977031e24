"""`python -m serving.agent.one_machine`: one machine's Envoy, agent and servers, in the foreground.

For a separate container; takes the options of `python -m serving.agent machine`. The token is
made up if there is none yet.
"""

import os
import sys
from collections.abc import Sequence

from contract.errors import ConfigError, SlipwayError
from contract.private_files import secret_file
from serving.agent.backends.registry import backend_kind
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings, parse
from serving.supervisord.configuration import socket_path, write_configuration


def supervisord(arguments: Sequence[str]) -> list[str]:
    """Write what supervisord needs and return its command line."""
    settings = parse(["machine", *arguments])
    assert isinstance(settings, MachineSettings)
    home = settings.supervisor_home
    if settings.supervisor_socket != (expected := socket_path(home)):
        raise ConfigError([f"--supervisor-socket: expected {expected}"])
    if not settings.token_file.exists():  # one that is there may be mounted read-only
        secret_file(settings.token_file)
    programs = [*backend_kind(settings.traffic_backend).programs(settings), agent_program(settings)]
    configuration = write_configuration(home, programs)
    return [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "-c", str(configuration)]


def main(arguments: Sequence[str]) -> None:
    """Become supervisord; exit code and words of the agent if that cannot be."""
    try:
        command = supervisord(arguments)
    except SlipwayError as error:
        print(error, file=sys.stderr)  # noqa: T201 (nobody has a log yet)
        raise SystemExit(error.exit_code) from error
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
