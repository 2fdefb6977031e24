"""The status of whatever goes wrong, as gRPC says it and as HTTP does.

Source: tensorflow_serving/model_servers/http_server.cc for the HTTP statuses. What is not named
here is 500; the real program answers 499 for CANCELLED, which no RFC knows.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType

from grpc import StatusCode

from serving.server.core.unanswerable import OutputShapeError
from serving.server.grpc.statuses import CallError, as_grpc
from serving.server.requests.errors import ServingError

log = logging.getLogger("slipway")

_HTTP_STATUSES: Mapping[StatusCode, int] = MappingProxyType(
    {
        StatusCode.INVALID_ARGUMENT: 400,
        StatusCode.FAILED_PRECONDITION: 400,
        StatusCode.OUT_OF_RANGE: 400,
        StatusCode.UNAUTHENTICATED: 401,
        StatusCode.PERMISSION_DENIED: 403,
        StatusCode.NOT_FOUND: 404,
        StatusCode.ALREADY_EXISTS: 409,
        StatusCode.ABORTED: 409,
        StatusCode.RESOURCE_EXHAUSTED: 429,
        StatusCode.UNIMPLEMENTED: 501,
        StatusCode.UNAVAILABLE: 503,
        StatusCode.DEADLINE_EXCEEDED: 504,
    }
)


def http_status(refusal: CallError) -> int:
    """Return what HTTP says for a refusal."""
    return _HTTP_STATUSES.get(refusal.code, 500)


def refusal_of(error: BaseException) -> CallError:
    """Return what a caller gets for an error; one that nobody expects goes into the log."""
    if isinstance(error, CallError):
        return error
    if isinstance(error, ServingError):
        return as_grpc(error)
    if isinstance(error, TimeoutError):
        return CallError(StatusCode.DEADLINE_EXCEEDED, "the time for the request has passed")
    if isinstance(error, OutputShapeError):
        return CallError(StatusCode.FAILED_PRECONDITION, f"Batched {error}")
    log.error("a request failed", exc_info=error)
    return CallError(StatusCode.INTERNAL, "the server failed; see its log")
