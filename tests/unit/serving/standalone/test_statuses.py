"""The status of whatever goes wrong."""

from http import HTTPStatus

import pytest
from grpc import StatusCode

from serving.server.core.unanswerable import OutputShapeError
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import DeadlineError, OverloadedError
from serving.standalone.statuses import http_status, refusal_of


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CallError(StatusCode.ABORTED, "a"), StatusCode.ABORTED, "a"),
        (OverloadedError("full"), StatusCode.UNAVAILABLE, "full"),
        (DeadlineError("late"), StatusCode.DEADLINE_EXCEEDED, "late"),
        (TimeoutError(), StatusCode.DEADLINE_EXCEEDED, "the time for the request has passed"),
        (OutputShapeError("output 'y'"), StatusCode.FAILED_PRECONDITION, "Batched output 'y'"),
        (ValueError("secret"), StatusCode.INTERNAL, "the server failed; see its log"),
    ],
)
def test_each_error_has_its_status(error: Exception, code: StatusCode, words: str) -> None:
    refusal = refusal_of(error)
    assert (refusal.code, str(refusal)) == (code, words)


def test_what_nobody_expects_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    refusal_of(ValueError("secret"))
    assert "ValueError: secret" in caplog.text


def test_every_http_status_is_one_that_our_connections_can_write() -> None:
    found = {code: http_status(CallError(code, "")) for code in StatusCode}
    assert all(400 <= status < 600 and HTTPStatus(status).phrase for status in found.values())
    assert found[StatusCode.NOT_FOUND] == 404
    assert found[StatusCode.FAILED_PRECONDITION] == 400
    assert found[StatusCode.UNKNOWN] == 500
