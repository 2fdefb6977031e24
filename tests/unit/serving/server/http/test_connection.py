"""HTTP/1.1 as bytes on a socket: framing, order, limits, closing."""

import asyncio
import json
import re
import socket
import time
from typing import Any

import pytest

import serving.server.http.connection as connection_module
from serving.server.http.connections import Connections

BODY = b'{"instances": [1]}'


def post(body: bytes = BODY, *headers: str) -> bytes:
    lines = ["POST /v1/models/doubling:predict HTTP/1.1", "host: x", *headers]
    if not any(line.lower().startswith(("content-length", "transfer")) for line in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts, half-close, and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        for part in parts:
            caller.sendall(part)
            time.sleep(pause)
        caller.shutdown(socket.SHUT_WR)
        received = b""
        while block := caller.recv(65536):
            received += block
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def test_pipelined_requests_are_answered_in_order(server):
    values = range(20, 60)
    requests = [post(b'{"instances": [%d]}' % value) for value in values]
    received = talk(server.port, b"".join(requests))
    answers = [part.split(b"}")[0] + b"}" for part in received.split(b"\r\n\r\n")[1:]]
    assert [json.loads(a)["predictions"][0] for a in answers] == [2.0 * v for v in values]


def test_a_request_in_many_small_pieces_is_understood(server):
    whole = post()
    received = talk(server.port, *(whole[i : i + 7] for i in range(0, len(whole), 7)), pause=0.002)
    assert statuses(received) == [200]


def test_a_chunked_body_is_put_together(server):
    chunks = b"4\r\n" + BODY[:4] + b"\r\n" + b"%x\r\n" % len(BODY[4:]) + BODY[4:] + b"\r\n0\r\n\r\n"
    assert statuses(talk(server.port, post(chunks, "transfer-encoding: chunked"))) == [200]


def test_expect_continue_is_answered_before_the_body(server):
    head, _, body = post(BODY, "expect: 100-continue").partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(head + b"\r\n\r\n")
        assert caller.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        caller.sendall(body)
        assert caller.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n",
        post(BODY, "content-length: -5"),
        post(BODY, "content-length: 5", "transfer-encoding: chunked"),
        post(b"zz\r\n", "transfer-encoding: chunked"),
    ],
)
def test_what_is_not_http_is_refused_with_400_and_closed(server, garbage):
    received = talk(server.port, garbage)
    assert statuses(received) == [400]
    assert b"not an HTTP/1.1 request" in received
    assert b"connection: close" in received


def test_an_error_waits_for_the_answers_before_it(server):
    assert statuses(talk(server.port, post() + b"garbage\r\n\r\n")) == [200, 400]


def test_a_large_announced_body_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(post(b"", f"content-length: {1 << 40}"))
        assert b"413 " in caller.recv(1000)


def test_a_chunked_body_above_the_limit_is_refused(server):
    block = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(post(b"", "transfer-encoding: chunked"))
        for _ in range(17):
            caller.sendall(block)
        assert b"413 " in caller.recv(1000)


def test_endless_headers_are_refused_with_431(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\n")
        for number in range(40):
            caller.sendall(b"x-%d: " % number + b"a" * 4000 + b"\r\n")
            time.sleep(0.002)
        assert b"431 " in caller.recv(1000)


def test_http_1_0_and_connection_close_are_closed_after_the_answer(server):
    for request in (
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
            caller.sendall(request)
            received = b""
            while block := caller.recv(1000):
                received += block
        assert statuses(received) == [200]


UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQA")
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize("offer", [UPGRADE, ("connection: upgrade", "upgrade: websocket")])
@pytest.mark.parametrize("step", [10_000, 7])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(server, offer, step):
    """RFC 9110 7.8: a server may ignore it, and then answers as if it had not been there."""
    for whole in (post(BODY, *offer), post(CHUNKS, "transfer-encoding: chunked", *offer)):
        pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
        received = talk(server.port, *pieces, pause=0.001)
        assert statuses(received) == [200]
        assert json.loads(received.partition(b"\r\n\r\n")[2])["predictions"] == [2.0]
        assert b"connection: close" in received


@pytest.mark.parametrize(
    ("request_bytes", "answers"),
    [
        (post(BODY, *UPGRADE) + post(), [200]),  # what follows is not read: it may be HTTP/2
        (post() + post(BODY, *UPGRADE), [200, 200]),
        (post(b"", f"content-length: {1 << 40}", *UPGRADE), [413]),
        (post(BODY, "transfer-encoding: identity", *UPGRADE), [400]),
        (post(b"zz\r\n", "transfer-encoding: chunked", *UPGRADE), [400]),
        (post(BODY, "content-length: 5", "transfer-encoding: chunked", *UPGRADE), [400]),
    ],
)
def test_an_offer_of_another_protocol_changes_no_framing(server, request_bytes, answers):
    assert statuses(talk(server.port, request_bytes)) == answers


def test_a_caller_that_goes_away_disturbs_nobody(serve, manifest, slow_engine):
    with serve(manifest(), slow_engine) as server:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
                caller.sendall(post())
        assert server.predict({"instances": [1]})[0] == 200
        assert server.connections.in_flight == 0


def test_a_request_that_does_not_end_is_given_up(server, monkeypatch):
    monkeypatch.setattr(connection_module, "_RECEIVE_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
        caller.sendall(post()[:-4])
        time.sleep(0.2)
        loop = server.loop
        loop.call_soon_threadsafe(server.connections.sweep)
        assert b"408 " in caller.recv(1000)


def test_an_idle_connection_is_closed_after_a_long_time(server, monkeypatch):
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
        time.sleep(0.2)
        server.loop.call_soon_threadsafe(server.connections.sweep)
        assert caller.recv(1000) == b""


def test_a_caller_that_half_closes_between_two_answers_gets_the_second():
    """The next request starts in the loop's next turn; the end of the stream may come before."""

    class Wire(asyncio.Transport):
        def write(self, data):
            written.append(bytes(data))

        def is_closing(self):
            return False

    async def scenario():
        shared = Connections(handled.append, 1 << 20)
        one = connection_module.Connection(shared)
        one.connection_made(Wire())
        one.data_received(post() + post())
        handled[0].reply(200, b"one")
        assert one.eof_received(), "the transport would close"
        await asyncio.sleep(0)
        assert len(handled) == 2

    handled: list[Any] = []
    written: list[bytes] = []
    asyncio.run(scenario())


# --- what callers may not use up ------------------------------------------------------------------


def chunked(*trailers: bytes) -> bytes:
    chunks = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n" + b"".join(trailers) + b"\r\n"
    return post(chunks, "transfer-encoding: chunked", "x-request-id: mine")


def wait_until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come about within 5 s")


def test_a_trailer_does_not_replace_a_header(server):
    received = talk(server.port, chunked(b"x-request-id: theirs\r\n", b"authorization: theirs\r\n"))
    assert statuses(received) == [200]
    assert b"x-request-id: mine\r\n" in received


def test_trailers_are_bounded(server):
    whole = chunked(b"x-long: " + b"a" * 100_000 + b"\r\n")
    pieces = [whole[i : i + 4096] for i in range(0, len(whole), 4096)]
    received = talk(server.port, *pieces, pause=0.001)
    assert statuses(received)[-1] == 431
    assert b"trailers above 16384 bytes" in received


def test_a_long_head_in_pieces_is_no_trailer(server):
    head, _, body = post(BODY, *(f"x-{n}: {'a' * 1000}" for n in range(40))).partition(b"\r\n\r\n")
    whole = head + b"\r\n\r\n"
    pieces = [whole[i : i + 4096] for i in range(0, len(whole), 4096)]
    assert statuses(talk(server.port, *pieces, body, pause=0.002)) == [200]


def test_connections_are_bounded_and_the_rest_is_told_to_try_again(server):
    shared = server.connections
    shared.max_connections = 3
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
    try:
        for caller in held:  # each is there, and answered
            caller.sendall(post())
            assert b" 200 " in caller.recv(65536)
        assert statuses(talk(server.port)) == [503]
    finally:
        for caller in held:
            caller.close()
    wait_until(lambda: not shared.open)
    assert statuses(talk(server.port, post())) == [200]


def test_bodies_under_way_are_bounded_together(server):
    shared = server.connections
    shared.max_received_bytes = 100_000
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(post(b"{" + b" " * 60_000, "content-length: 90000"))
        wait_until(lambda: shared.received_bytes > 50_000)
        received = talk(server.port, post(b" " * 60_000 + BODY))
        assert statuses(received) == [503]
        assert b"retry-after: 1" in received
        assert statuses(talk(server.port, post())) == [200]
    wait_until(lambda: shared.received_bytes == 0)
    assert statuses(talk(server.port, post(b" " * 60_000 + BODY))) == [200]


def test_a_large_body_is_read_while_others_are_answered(server):
    large = b'{"instances": [' + b"1," * 400_000 + b"1]}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(post(large, "connection: close"))
        assert statuses(talk(server.port, post())) == [200]
        received = b""
        while block := caller.recv(65536):
            received += block
    assert statuses(received) == [413]
    assert b"found 400,001 rows" in received


def test_an_error_does_not_echo_megabytes(server):
    name = b"n" * 3_000_000
    for body in (b'{"instances": [{"%b": 1}]}' % name, b'{"%b": 1}' % name):
        began = time.process_time()  # the server is a thread of this process
        received = talk(server.port, post(body))
        assert statuses(received) == [400]
        assert len(received) < 4000
        assert time.process_time() - began < 5
