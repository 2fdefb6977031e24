"""How model servers are run: the door between the reconciler and processes (or pods, later)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from contract.programs import MODEL_SERVER
from serving.traffic.backend import Endpoint, Version

# The names of a server's ports. Traffic goes to the first.
HTTP, GRPC = "http", "grpc"


@dataclass(frozen=True)
class ServerSpec:
    """What one model server needs: its package, where it logs predictions, its patience."""

    pipeline: str
    version: int
    package: Path
    predictions: Path
    drain_seconds: float
    is_grpc: bool = False
    program: str = MODEL_SERVER  # of contract.programs

    @property
    def key(self) -> Version:
        return (self.pipeline, self.version)

    @property
    def port_names(self) -> tuple[str, ...]:
        """The ports that it listens on, by name."""
        return (HTTP, GRPC) if self.is_grpc else (HTTP,)


@dataclass(frozen=True)
class ServerState:
    """A model server as its host sees it.

    `is_kept` is False for one that is ending or was given up: if it is needed, start it.
    `problem` says in words why it does not run. `process` tells one start of it from the next;
    empty while it does not run, and where nobody can say.
    """

    endpoint: Endpoint
    is_kept: bool = True
    problem: str = ""
    process: str = ""


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

    def end(self, version: Version) -> None:
        """Kill a server that hangs; its supervisor or Deployment starts another. Does not wait."""
        ...

    def stop(self, version: Version) -> bool:
        """Ask a server to drain and end; True once it is gone. Call again until then."""
        ...
