"""The HTTP status of each error of the core."""

from serving.server.http.messages import RequestError
from serving.server.requests.errors import (
    InjectedFaultError,
    InvalidInputError,
    OverloadedError,
    ServingError,
    TooLargeError,
)

STATUSES: dict[type[ServingError], int] = {
    InvalidInputError: 400,
    TooLargeError: 413,
    InjectedFaultError: 500,
    OverloadedError: 503,
}
_TRY_AGAIN = {"retry-after": "1"}  # seconds


def as_http(error: ServingError) -> RequestError:
    """Return the answer to a request that the core cannot serve."""
    headers = _TRY_AGAIN if isinstance(error, OverloadedError) else None
    return RequestError(STATUSES[type(error)], str(error), headers)
