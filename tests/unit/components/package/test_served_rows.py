"""A server that is asked for rows together and alone: real HTTP, and arithmetic behind it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from components.package.served_rows import require_independent_rows
from contract.errors import SlipwayError, UserCodeError
from contract.records.package import InputSpec

INPUTS = {
    "x": InputSpec(dtype="float32"),
    "words": InputSpec(dtype="string", is_variable_length=True),
}
ROWS = [{"x": float(n), "words": ["a"] * (n % 5)} for n in range(40)]

Answer = Callable[[list[dict[str, Any]]], list[Any]]


@contextmanager
def server(answer: Answer, failures: int = 0) -> Iterator[tuple[str, list[int]]]:
    """Yield an address that answers instances, and how many each request has had."""
    sizes: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1  # headers and body in one packet

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sizes.append(len(body["instances"]))
            is_failure = len(sizes) <= failures
            said = {} if is_failure else {"predictions": answer(body["instances"])}
            content = json.dumps(said).encode()
            self.send_response(503 if is_failure else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1/models/tiny:predict", sizes
    finally:
        http.shutdown()
        http.server_close()


def widths(rows: list[dict[str, Any]]) -> list[Any]:
    width = max(1, *(len(row["words"]) for row in rows))
    return [row["x"] + len(row["words"]) / width for row in rows]


def test_answers_of_the_row_pass_in_batches_that_a_server_takes() -> None:
    with server(lambda rows: [row["x"] * 2 for row in rows]) as (url, sizes):
        assert require_independent_rows(url, ROWS, INPUTS, 1e-5) == 16
    assert max(sizes) == 16
    assert sizes.count(1) >= 4


def test_the_feature_whose_padding_counts_is_named() -> None:
    with (
        server(widths) as (url, _),
        pytest.raises(
            UserCodeError,
            match=r"^package: the answer of the packaged model to a row changes by .* with the "
            r"padding of 'words'.* not kept",
        ),
    ):
        require_independent_rows(url, ROWS, INPUTS, 1e-5)


def test_of_several_heads_the_one_that_changes_is_named() -> None:
    def answer(rows: list[dict[str, Any]]) -> list[Any]:
        mean = float(np.mean([row["x"] for row in rows]))
        return [{"kind_scores": [0.25, 0.75], "price_value": row["x"] - mean} for row in rows]

    with (
        server(answer) as (url, _),
        pytest.raises(UserCodeError, match="of output 'price_value' to a row changes by"),
    ):
        require_independent_rows(url, ROWS, INPUTS, 1e-5)


def test_an_engine_in_int8_may_differ_within_its_tolerance() -> None:
    def answer(rows: list[dict[str, Any]]) -> list[Any]:
        return [0.5 + 0.01 * (len(rows) > 1) for _ in rows]

    with server(answer) as (url, _):
        require_independent_rows(url, ROWS, INPUTS, 0.05)
        with pytest.raises(UserCodeError, match="changes by 0.0"):
            require_independent_rows(url, ROWS, INPUTS, 1e-5)


def test_requests_that_fail_on_purpose_are_tried_again() -> None:
    with server(lambda rows: [0.5 for _ in rows], failures=3) as (url, _):
        assert require_independent_rows(url, ROWS, INPUTS, 1e-5, attempts=4) == 16
    with (
        server(lambda rows: [0.5 for _ in rows], failures=3) as (url, _),
        pytest.raises(SlipwayError, match="answered 503"),
    ):
        require_independent_rows(url, ROWS, INPUTS, 1e-5)
