"""The health service of gRPC, for load balancers and probes; it needs no token.

Source: github.com/grpc/grpc, doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from contract.wire.grpc_services import HealthCheckRequest, HealthCheckResponse
from serving.server.requests.errors import SHOWN_CHARACTERS

SERVICE = "grpc.health.v1.Health"

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_WATCH_SECONDS = 0.2
_MAX_WATCHERS = 128  # each of them, who needs no token, takes one of the server's calls


class Watched(Protocol):
    """What health is said of; `state` is AVAILABLE while it answers."""

    is_draining: bool

    @property
    def state(self) -> str: ...


class Health:
    """Says SERVING from the time the model is warm until the server drains."""

    def __init__(self, service: Watched, services: Collection[str]) -> None:
        """Answer for these services, and for the whole server by an empty name."""
        self._service, self._services = service, frozenset(("", *services))
        self._watchers = 0

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what gRPC needs to serve it."""
        made = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, made)

    async def _check(self, message: bytes, context: "aio.ServicerContext[Any, Any]") -> bytes:
        name = await _name(message, context)
        if name not in self._services:
            await context.abort(
                StatusCode.NOT_FOUND, f"unknown service {name[:SHOWN_CHARACTERS]!r}"
            )
        return _answer(self._status(name))

    async def _watch(
        self, message: bytes, context: "aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[bytes]:
        """Tell the status and each change of it, until the server drains, which waits for calls."""
        name, told = await _name(message, context), None
        if self._watchers >= _MAX_WATCHERS:
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} watch already")
        self._watchers += 1
        try:
            while True:
                is_last = self._service.is_draining
                if (status := self._status(name)) != told:
                    told = status
                    yield _answer(status)
                if is_last:
                    return
                await asyncio.sleep(_WATCH_SECONDS)
        finally:
            self._watchers -= 1

    def _status(self, name: str) -> int:
        if name not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._service.state == "AVAILABLE" else _NOT_SERVING


async def _name(message: bytes, context: "aio.ServicerContext[Any, Any]") -> str:
    try:
        return str(HealthCheckRequest.FromString(message).service)
    except DecodeError:
        await context.abort(StatusCode.INVALID_ARGUMENT, "the message is not a HealthCheckRequest")
        raise


def _answer(status: int) -> bytes:
    return bytes(HealthCheckResponse(status=status).SerializeToString())
