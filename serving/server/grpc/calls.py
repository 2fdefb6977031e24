"""What every gRPC call needs: the token, the deadline, an id, its error's status, metrics, the log.

A method is a coroutine from a `Call` to the bytes of its answer. Messages are parsed within it, so
that a broken one is the caller's error with a message, not gRPC's UNKNOWN.
"""

import asyncio
import hmac
import itertools
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from contract.addresses import VERSION_HEADER
from contract.records.prediction import ARM_HEADER
from serving.server.core.asked import Asked, Caller
from serving.server.core.service import Found, PredictService
from serving.server.core.spans import ANSWER_HEADER, WANTED_HEADER, server_timing
from serving.server.engines.engine import Outputs
from serving.server.grpc.statuses import CallError, as_grpc
from serving.server.http.statuses import STATUSES
from serving.server.requests.errors import (
    InvalidInputError,
    LoadingError,
    ServingError,
    for_caller,
)

log = logging.getLogger("slipway")

_MAX_REQUEST_ID_BYTES = 128
_LARGE_BYTES = 256 * 1024  # above it, reading takes longer than a health check should wait

# It tells the proxy in front that it may try again itself, as over HTTP.
LOADING = (("x-slipway-loading", "1"),)

Made = TypeVar("Made")


class Call:
    """One call: what was sent, and when its caller stops waiting (of `time.monotonic()`).

    `asked` is set when the model is asked.
    """

    __slots__ = ("asked", "caller", "expires_at", "message")

    def __init__(self, message: bytes, caller: Caller, expires_at: float) -> None:
        self.message, self.caller, self.expires_at = message, caller, expires_at
        self.asked: Asked | None = None

    def read(self, kind: Any) -> Any:
        """Return the message as one of this class.

        Raises:
            InvalidInputError: If it is not one.
        """
        try:
            return kind.FromString(self.message)
        except DecodeError as error:
            raise InvalidInputError(f"the message is not a {kind.DESCRIPTOR.name}") from error


Method = Callable[[Call], Awaitable[bytes]]


class Callers:
    """Says who calls: by the id and the arm in the metadata, or an id of this server's."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(6).hex()

    def of(self, metadata: Mapping[str, Any]) -> Caller:
        """Return who has called just now."""
        given = str(metadata.get("x-request-id", ""))
        if not 0 < len(given) <= _MAX_REQUEST_ID_BYTES:
            given = f"{self._id_prefix}-{next(self._ids):x}"
        arm = str(metadata.get(ARM_HEADER, "")).encode()
        return Caller(given.encode(), arm, time.monotonic())


class Calls:
    """Wraps the methods of a server's services."""

    def __init__(self, service: PredictService, token: str | None = None) -> None:
        self._service = service
        self._token = token
        self._version = str(service.manifest.version)
        self._callers = Callers()
        self._decoder = ThreadPoolExecutor(1, "decoder")
        self.in_flight = 0
        self.last_call_at = time.monotonic()

    def handlers(self, service: str, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
        """Return what gRPC needs to serve methods by their names."""
        made = {
            name: grpc.unary_unary_rpc_method_handler(self._wrapped(name, method))
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, made)

    def check_token(self, metadata: Mapping[str, Any]) -> None:
        """Refuse a call without this server's token.

        Raises:
            CallError: UNAUTHENTICATED.
        """
        check_token(metadata.items(), self._token)

    async def beside(self, size_bytes: int, work: Callable[[], Made]) -> Made:
        """Do work on so many bytes: at once, or in a thread if other calls would wait for it."""
        if size_bytes <= _LARGE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._decoder, work)

    async def predicted(self, call: Call, asked: Asked) -> Outputs:
        """Return the model's outputs for rows.

        Raises:
            ServingError: If the model does not answer them.
        """
        call.asked = asked
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()

        def done(outcome: Found) -> None:
            if not found.done():  # the caller may have gone, which cancels it
                found.set_result(outcome)

        self._service.submit(call.caller.request_id, asked, done, call.expires_at)
        outcome = await found
        if isinstance(outcome, ServingError):
            raise outcome
        return outcome

    def _wrapped(self, name: str, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        label, is_prediction = f"grpc_{name}", name in PREDICTIONS

        async def handle(message: bytes, context: "aio.ServicerContext[Any, Any]") -> bytes:
            metadata = dict(context.invocation_metadata() or ())
            caller = self._callers.of(metadata)
            self.in_flight += 1
            self.last_call_at = caller.received_at
            try:
                self.check_token(metadata)
                call = Call(message, caller, _expires_at(context, caller))
                answer = await method(call)
            except asyncio.CancelledError:
                self._observe(label, StatusCode.CANCELLED, caller)
                raise
            except Exception as error:  # no call may stay without its status
                refusal = self._refusal(error, caller, is_prediction)
                self._observe(label, refusal.code, caller)
                loading = LOADING if isinstance(error, LoadingError) else ()
                context.set_trailing_metadata((*self._trailing(caller), *loading))
                await context.abort(refusal.code, for_caller(refusal))
                raise  # never: abort raises
            finally:
                self.in_flight -= 1
            timing = self._timing(call, metadata)
            self._observe(label, StatusCode.OK, caller)
            context.set_trailing_metadata((*self._trailing(caller), *timing))
            return answer

        return handle

    def _refusal(self, error: Exception, caller: Caller, is_prediction: bool) -> CallError:
        if isinstance(error, CallError):
            return error
        if isinstance(error, ServingError):
            status = STATUSES[type(error)]
            if is_prediction and 400 <= status < 500:
                self._service.note_refusal(caller, status)
            return as_grpc(error)
        log.error("request %s failed", caller.request_id, exc_info=error)
        return CallError(StatusCode.INTERNAL, "the server failed; see its log")

    def _trailing(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        request_id = caller.request_id.decode()
        return (("x-request-id", request_id), (VERSION_HEADER, self._version))

    def _timing(self, call: Call, metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Count where the time of an answered prediction went; return it where it is wanted."""
        if call.asked is None:
            return ()
        seconds = call.asked.spans.seconds(call.caller.received_at, time.monotonic())
        self._service.metrics.observe_spans(seconds)
        wanted = WANTED_HEADER in metadata
        return ((ANSWER_HEADER, server_timing(seconds)),) if wanted else ()

    def _observe(self, label: str, code: StatusCode, caller: Caller) -> None:
        seconds = time.monotonic() - caller.received_at
        self._service.metrics.observe_request(label, code.name, seconds)


def check_token(metadata: Iterable[tuple[str, Any]] | None, token: str | None) -> None:
    """Refuse a call whose metadata lack the server's token; None lets everybody in.

    Raises:
        CallError: UNAUTHENTICATED.
    """
    if token is None:
        return
    given = dict(metadata or ()).get("authorization", "")
    if not hmac.compare_digest(str(given).encode(), f"Bearer {token}".encode()):
        raise CallError(
            StatusCode.UNAUTHENTICATED,
            "expected the metadata 'authorization: Bearer <token>' with this server's token",
        )


PREDICTIONS = frozenset(("Predict", "Classify", "Regress", "MultiInference", "ModelInfer"))


def _expires_at(context: "aio.ServicerContext[Any, Any]", caller: Caller) -> float:
    left = context.time_remaining()
    return math.inf if left is None else caller.received_at + left
