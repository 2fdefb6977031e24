"""Whom a client asks, and what each protocol does for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway.client.columns import Array, Tensor


@dataclass(frozen=True)
class Connecting:
    """How a client connects.

    Attributes:
        timeout_seconds: How long an answer may take; over gRPC the server knows it, too.
        trusted: A PEM file with the only certificates that are trusted; None: the usual ones.
    """

    timeout_seconds: float = 30.0
    trusted: Path | None = None


@dataclass(frozen=True)
class Target:
    """Whom to ask, and how; see `Client`."""

    url: str
    model: str
    version: int | None
    token: str
    connecting: Connecting


@dataclass(frozen=True)
class Signature:
    """What an entry point of a model takes and answers, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Prediction:
    """What a model answers.

    Attributes:
        outputs: By name, arrays `[rows, ...]`; text is bytes.
        version: Which version answered.
    """

    outputs: Mapping[str, Array]
    version: int


class Transport(Protocol):
    """A protocol."""

    def signatures(self) -> Mapping[str, Signature]:
        """Ask what the model takes and answers."""

    def predict(
        self,
        signature: str,
        known: Signature,
        columns: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> Prediction:
        """Ask for predictions; `outputs` names some, or none for all."""

    def close(self) -> None:
        """Close the connection."""
