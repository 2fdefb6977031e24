"""How model servers are run: the door between the reconciler and processes (or pods, later)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.traffic.backend import Endpoint, Version


@dataclass(frozen=True)
class ServerSpec:
    """What one model server needs: its package, where it logs predictions, its patience."""

    pipeline: str
    version: int
    package: Path
    predictions: Path
    drain_seconds: float

    @property
    def key(self) -> Version:
        return (self.pipeline, self.version)


@dataclass(frozen=True)
class ServerState:
    """A model server as its host sees it.

    `is_kept` is False for one that is ending or was given up: if it is needed, start it.
    `problem` says in words why it does not run.
    """

    endpoint: Endpoint
    is_kept: bool = True
    problem: str = ""


class ServerHost(Protocol):
    """Starts, keeps and stops model servers; they outlive the process that started them.

    Every method may raise ServiceUnavailableError, and none waits for a server.
    """

    def states(self) -> Mapping[Version, ServerState]:
        """Return every server, also those that another process started."""
        ...

    def start(self, spec: ServerSpec) -> None:
        """Start a server that is not there or not kept; where it must wait, call again."""
        ...

    def stop(self, version: Version) -> bool:
        """Ask a server to drain and end; True once it is gone. Call again until then."""
        ...
