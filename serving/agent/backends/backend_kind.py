"""What the agent and `slipway up` must know of a traffic backend to run with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI

from serving.agent.hosts.host import ServerHost
from serving.agent.settings import AgentSettings, MachineSettings
from serving.supervisord.supervision import Program
from serving.traffic.backend import TrafficBackend


@dataclass(frozen=True)
class OpenBackend:
    """A backend at work. `questions` are apps, by path, that the agent's API serves for it."""

    backend: TrafficBackend
    questions: Mapping[str, FastAPI] = field(default_factory=dict)


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
