"""What a process is started with, fresh or forked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.schema.cluster import ProcessJobConfig


@dataclass(frozen=True)
class ProcessStart:
    """A command, the variables and the folder it runs in, and its time to end after SIGTERM."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    grace_seconds: float = ProcessJobConfig().grace_seconds
