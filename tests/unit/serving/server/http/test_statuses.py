"""Each error of the core has one HTTP status."""

import pytest

from serving.server.http.statuses import STATUSES, as_http
from serving.server.requests import errors
from serving.server.requests.errors import (
    InvalidInputError,
    LoadingError,
    OverloadedError,
    ServingError,
)


def test_every_error_of_the_core_has_a_status() -> None:
    assert set(ServingError.__subclasses__()) == STATUSES.keys()
    assert all(kind.__module__ == errors.__name__ for kind in STATUSES)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidInputError("row 1"), 400, {}),
        (OverloadedError("3 rows are waiting"), 503, {"retry-after": "1"}),
        (LoadingError("still loading"), 503, {"retry-after": "1", "x-slipway-loading": "1"}),
    ],
)
def test_the_words_stay_and_a_caller_who_may_try_again_learns_when(
    error: ServingError, status: int, headers: dict[str, str]
) -> None:
    answer = as_http(error)
    assert (answer.status, str(answer), answer.headers) == (status, str(error), headers)
