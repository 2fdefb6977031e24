"""The ports of a gRPC server."""

import asyncio
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.records.package import PackageManifest
from serving.server.core.metrics import ServerMetrics
from serving.server.core.service import PredictService
from serving.server.grpc.front import GrpcFront, GrpcPorts

Manifest = Callable[..., PackageManifest]


def opened(manifest: PackageManifest, ports: GrpcPorts) -> int | None:
    """Open the ports, close them again, and return the TCP port that was bound."""

    async def bound() -> int | None:
        front = GrpcFront(PredictService(manifest, ServerMetrics("doubling", 7), ()), ports)
        await front.start()
        await front.stop(0)
        return front.port

    return asyncio.run(bound())


def test_a_taken_port_is_said(manifest: Manifest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen there: .*; choose"):
            opened(manifest(), GrpcPorts("127.0.0.1", port))


def test_a_socket_that_cannot_be_made_is_said(manifest: Manifest, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "grpc.sock"
    with pytest.raises(ConfigError, match="cannot listen there: .*another --grpc-port or"):
        opened(manifest(), GrpcPorts("127.0.0.1", None, missing))


def test_a_socket_is_its_owners_alone(manifest: Manifest, tmp_path: Path) -> None:
    path, modes = tmp_path / "grpc.sock", []

    async def bound() -> None:
        service = PredictService(manifest(), ServerMetrics("doubling", 7), ())
        front = GrpcFront(service, GrpcPorts("127.0.0.1", None, path))
        modes.append(stat.S_IMODE(path.stat().st_mode))
        await front.stop(0)

    asyncio.run(bound())
    assert modes == [0o600]


def test_port_0_takes_a_free_one(manifest: Manifest) -> None:
    assert (opened(manifest(), GrpcPorts("127.0.0.1", 0)) or 0) > 0
