"""The command line of a server of one package."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.server.http.targets import DEFAULT_LABELS


@dataclass(frozen=True)
class Options:
    """The command line."""

    package: Path
    port: int
    host: str = "127.0.0.1"
    predictions: Path | None = None
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    labels: tuple[str, ...] = DEFAULT_LABELS
    grpc_port: int | None = None
    grpc_socket: Path | None = None
    leave_seconds: float = 0.0

    @property
    def has_grpc(self) -> bool:
        """Whether gRPC is asked for."""
        return self.grpc_port is not None or self.grpc_socket is not None


def parse(arguments: Sequence[str], program: str, description: str | None) -> Options:
    """Read the command line; `--help` and errors end the process as argparse does."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--package", type=Path, required=True, help="folder with package.json")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one and logs it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--grpc-port", type=int, help="serve gRPC, too; 0 takes a free one")
    parser.add_argument("--grpc-socket", type=Path, help="serve gRPC at a Unix socket of this name")
    parser.add_argument("--predictions", type=Path, help="folder for the prediction log")
    parser.add_argument("--token-file", type=Path, help="file with the token callers must send")
    parser.add_argument("--certificate", type=Path, help="PEM file: serve TLS")
    parser.add_argument("--key", type=Path, help="PEM file with the certificate's key")
    parser.add_argument(
        "--leave-seconds",
        type=float,
        default=0.0,
        help="least time between SIGTERM and the port's end, for callers who cannot know yet",
    )
    parser.add_argument(
        "--label",
        action="append",
        dest="labels",
        metavar="NAME",
        help="answer /labels/NAME too; may be repeated; 'stable' if none is given",
    )
    found = vars(parser.parse_args(arguments))
    return Options(**{**found, "labels": tuple(found["labels"] or DEFAULT_LABELS)})
