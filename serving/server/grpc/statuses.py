"""The gRPC status of each error of the core, and errors that only gRPC knows."""

from grpc import StatusCode

from serving.server.requests.errors import (
    DeadlineError,
    InjectedFaultError,
    InvalidInputError,
    LoadingError,
    ModelFailedError,
    ModelNotFoundError,
    OverloadedError,
    ServingError,
    TooLargeError,
)

# As TensorFlow Serving words their kind. A full queue is UNAVAILABLE there, too: clients and
# proxies try that again; RESOURCE_EXHAUSTED would tell them not to.
CODES: dict[type[ServingError], StatusCode] = {
    InvalidInputError: StatusCode.INVALID_ARGUMENT,
    TooLargeError: StatusCode.INVALID_ARGUMENT,
    ModelNotFoundError: StatusCode.NOT_FOUND,
    DeadlineError: StatusCode.DEADLINE_EXCEEDED,
    LoadingError: StatusCode.UNAVAILABLE,
    OverloadedError: StatusCode.UNAVAILABLE,
    ModelFailedError: StatusCode.INTERNAL,
    InjectedFaultError: StatusCode.INTERNAL,
}


class CallError(Exception):
    """A call that is refused with this status, for a reason that no other protocol has."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def as_grpc(error: ServingError) -> CallError:
    """Return the status of a call that the core cannot serve."""
    return CallError(CODES[type(error)], str(error))
