"""The gRPC server of a process: its ports, its limits, its life."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from contract.errors import ConfigError
from serving.server.core.service import PredictService
from serving.server.grpc import inference_service, model_service, prediction_service
from serving.server.grpc.calls import Calls
from serving.server.grpc.health import SERVICE as HEALTH
from serving.server.grpc.health import Health
from serving.server.grpc.inference_service import InferenceService
from serving.server.grpc.model_service import ModelService
from serving.server.grpc.prediction_service import PredictionService
from serving.server.grpc.reflection import Reflection

log = logging.getLogger("slipway")

MAX_CONCURRENT_CALLS = 1024  # of the server; further ones get RESOURCE_EXHAUSTED
_MAX_CONCURRENT_STREAMS = 256  # of a connection; further ones wait at the caller
_MAX_METADATA_BYTES = 64 * 1024
_HANDSHAKE_MILLISECONDS = 20_000


@dataclass(frozen=True)
class GrpcPorts:
    """Where to listen, and with what.

    Attributes:
        host: Of `port`.
        port: 0 takes a free one; None: none.
        socket: A Unix socket to make; None: none.
        token: What callers must send; None: nothing.
        certificate: PEM file of TLS on `port`, with `key`; None: no TLS.
        key: PEM file.
    """

    host: str
    port: int | None
    socket: Path | None = None
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None


class GrpcFront:
    """All gRPC services of one version of one model. Belongs to the running event loop."""

    def __init__(self, service: PredictService, ports: GrpcPorts) -> None:
        """Take the ports.

        Raises:
            ConfigError: If one of them cannot be used.
        """
        self._calls = calls = Calls(service, ports.token)
        most_bytes = int(service.manifest.serve.max_body_mb * 2**20)
        self._server = aio.server(
            options=_options(most_bytes), maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS
        )
        services = {
            prediction_service.SERVICE: PredictionService(service, calls).methods(),
            model_service.SERVICE: ModelService(service).methods(),
            model_service.SESSION_SERVICE: model_service.session_methods(),
            inference_service.SERVICE: InferenceService(service, calls).methods(),
        }
        health = Health(service, services)
        self._server.add_generic_rpc_handlers(
            [
                *(calls.handlers(name, methods) for name, methods in services.items()),
                health.handlers(),
                *Reflection(calls, [*services, HEALTH]).handlers(),
            ]
        )
        self.port = self._listen(ports)

    @property
    def in_flight(self) -> int:
        """How many calls wait for their answer."""
        return self._calls.in_flight

    @property
    def last_call_at(self) -> float:
        """When the last call came, of `time.monotonic()`."""
        return self._calls.last_call_at

    async def start(self) -> None:
        """Answer; predictions are UNAVAILABLE until the model is loaded."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and wait for those in flight."""
        await self._server.stop(grace_seconds)

    def _listen(self, ports: GrpcPorts) -> int | None:
        if ports.socket is not None:
            self._bind(f"unix:{ports.socket}", None)
            ports.socket.chmod(0o600)
            log.info("gRPC at unix:%s", ports.socket)
        if ports.port is None:
            return None
        host = f"[{ports.host}]" if ":" in ports.host else ports.host
        bound = self._bind(f"{host}:{ports.port}", credentials_of(ports.certificate, ports.key))
        log.info("gRPC at %s:%d%s", ports.host, bound, " (TLS)" if ports.certificate else "")
        return bound

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                [f"{address}: cannot listen there: {error}; choose another --grpc-port or "
                 "--grpc-socket"]
            ) from error  # fmt: skip


def _options(most_bytes: int) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _MAX_CONCURRENT_STREAMS),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
        ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a partner
    )


def credentials_of(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    """Return what TLS needs of two PEM files; None without files."""
    if certificate is None or key is None:
        return None
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
