"""What the agent and `slipway up` must know of a traffic backend to run with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI

from serving.agent.hosts.host import ServerHost
from serving.agent.reachability import Hosts, anywhere
from serving.agent.settings import AgentSettings, MachineSettings
from serving.supervisord.configuration import Program
from serving.traffic.backend import TrafficBackend


@dataclass(frozen=True)
class OpenBackend:
    """A backend at work.

    Attributes:
        backend: What moves the traffic.
        questions: Apps, by path, that the agent's API serves for it.
        hosts: Says how many hosts of versions each part of the data plane knows; a version of
            which it says nothing counts as reached.
        keep: What the agent does again and again, in a thread of its own, to keep it healthy.
    """

    backend: TrafficBackend
    questions: Mapping[str, FastAPI] = field(default_factory=dict)
    keep: Callable[[], object] = lambda: None
    hosts: Hosts = anywhere


@dataclass(frozen=True)
class BackendKind:
    """How a backend is started.

    Attributes:
        open: Makes the backend inside the agent. Raises ConfigError if a setting is wrong.
        programs: The programs that supervisord keeps for it on one machine; they may already
            serve before the agent runs, and continue without it.
    """

    open: Callable[[AgentSettings, ServerHost], OpenBackend]
    programs: Callable[[MachineSettings], list[Program]]
