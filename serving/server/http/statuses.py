"""The HTTP status of each error of the core."""

from serving.server.http.messages import RequestError
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

STATUSES: dict[type[ServingError], int] = {
    InvalidInputError: 400,
    ModelNotFoundError: 404,
    TooLargeError: 413,
    InjectedFaultError: 500,
    ModelFailedError: 500,
    OverloadedError: 503,
    LoadingError: 503,
    DeadlineError: 504,
}
_TRY_AGAIN = {"retry-after": "1"}  # seconds
_HEADERS: dict[type[ServingError], dict[str, str]] = {
    OverloadedError: _TRY_AGAIN,
    # The second header tells the proxy in front that it may try again itself.
    LoadingError: {**_TRY_AGAIN, "x-slipway-loading": "1"},
}


def as_http(error: ServingError) -> RequestError:
    """Return the answer to a request that the core cannot serve."""
    return RequestError(STATUSES[type(error)], str(error), _HEADERS.get(type(error)))
