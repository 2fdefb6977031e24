"""gzip around bodies, as callers send it and as nobody should."""

import gzip
import json
import socket
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.schema.serving import ServeConfig
from serving.server.http.content_encoding import decoded_body
from serving.server.http.messages import RequestError

BODY = json.dumps({"instances": [1, 2]}).encode()
ANSWER = (200, {"predictions": [2.0, 4.0]})
MEGABYTE = 2**20
GZIP = {"content-encoding": "gzip"}


def packed(content, level=9):
    """Return gzip that is the same at every time."""
    return gzip.compress(content, level, mtime=0)


def ask(server, body, **headers):
    status, _, answer = server.send("POST", "/v1/models/doubling:predict", body, headers)
    return status, answer


@pytest.mark.parametrize("name", ["gzip", "GZip", "x-gzip", "identity, gzip", " gzip , identity"])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_gzip_body_is_read(server, name, level):
    assert ask(server, packed(BODY, level), **{"content-encoding": name}) == ANSWER


@pytest.mark.parametrize("encoding", ["identity", "", "identity, identity"])
def test_a_plain_body_may_say_so(server, encoding):
    assert ask(server, BODY, **{"content-encoding": encoding}) == ANSWER


@pytest.mark.parametrize("pieces", [2, 7, len(BODY)])
def test_several_gzip_members_are_one_body(server, pieces):
    size = -(-len(BODY) // pieces)
    members = [packed(BODY[i : i + size]) for i in range(0, len(BODY), size)]
    assert ask(server, b"".join([packed(b""), *members, packed(b"")]), **GZIP) == ANSWER


def test_a_gzip_body_in_chunks_and_small_pieces_is_read(server):
    content = packed(BODY)
    chunks = [content[i : i + 3] for i in range(0, len(content), 3)]
    head = (
        b"POST /v1/models/doubling:predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(head)
        for chunk in chunks:
            caller.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            time.sleep(0.001)
        caller.sendall(b"0\r\n\r\n")
        received = b"".join(iter(lambda: caller.recv(65536), b""))
    assert received.endswith(b'{"predictions":[2.0,4.0]}')


@pytest.mark.parametrize(
    "encoding", ["br", "deflate", "zstd", "compress", "gzip, gzip", "gzip, br", "utf-8", "gzipp"]
)
def test_another_encoding_is_refused_with_415_and_what_is_taken(server, encoding):
    status, headers, answer = server.predict(packed(BODY), **{"content-encoding": encoding})
    assert (status, headers["accept-encoding"]) == (415, "gzip, identity")
    assert answer["error"] == f"content-encoding '{encoding}': expected gzip, or none"


def test_encodings_on_two_lines_are_one_list(server):
    content = packed(packed(BODY))
    lines = (
        b"POST /v1/models/doubling:predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-encoding: gzip\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(lines % len(content) + content)
        assert caller.recv(1000).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BODY, "the body is not gzip"),
        (b"", "the body is not gzip"),
        (zlib.compress(BODY), "the body is not gzip"),
        (packed(BODY)[:-1], "ends too early"),
        (packed(BODY)[:-9], "ends too early"),
        (packed(BODY)[:12], "ends too early"),
        (b"\x1f\x8b", "ends too early"),
        (packed(BODY) + BODY, "data after the end of the gzip"),
        (packed(BODY) + b"\0", "data after the end of the gzip"),
        (packed(BODY) + b"\x1f\x8b", "ends too early"),
        (packed(BODY)[:-8] + bytes(8), "broken gzip: .*incorrect data check"),
        (packed(BODY)[:-4] + b"\1\0\0\0", "broken gzip: .*incorrect length check"),
        (b"\x1f\x8b\x07" + packed(BODY)[3:], "broken gzip: .*unknown compression method"),
        (packed(b"{"), "not JSON"),
        (packed(packed(BODY)), "not JSON: .*it looks like gzip"),
        (packed(b"") * 5000, "more than 4096 gzip members"),
    ],
)
def test_a_broken_gzip_body_is_refused_with_400_and_the_reason(server, content, words):
    status, answer = ask(server, content, **GZIP)
    assert status == 400
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(answer["error"])
    assert ask(server, BODY) == ANSWER


def test_a_gzip_body_without_its_header_is_told_what_to_send(server):
    status, answer = ask(server, packed(BODY))
    assert status == 400
    assert "it looks like gzip: send content-encoding: gzip" in answer["error"]


def bomb(size_bytes):
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MEGABYTE)
    return b"".join(deflate.compress(zeros) for _ in range(size_bytes >> 20)) + deflate.flush()


def inflated_bytes(content, max_bytes):
    """Return how many bytes were held at most while a body was refused, and the refusal."""
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as refused:
            decoded_body(content, b"gzip", max_bytes)
        return tracemalloc.get_traced_memory()[1], refused.value
    finally:
        tracemalloc.stop()


def test_a_body_that_says_it_is_too_large_is_refused_without_inflating_it():
    held, refusal = inflated_bytes(bomb(100 * MEGABYTE), 16 * MEGABYTE)
    assert refusal.status == 413
    assert "says that it inflates to 104857600 bytes, at most 16777216 are accepted" in str(refusal)
    assert held < MEGABYTE


def test_a_bomb_that_lies_about_its_size_is_inflated_to_the_limit_only():
    lying = bomb(100 * MEGABYTE)[:-4] + b"\x10\0\0\0"
    held, refusal = inflated_bytes(lying, MEGABYTE)
    assert refusal.status == 413
    assert "inflates to more than is accepted" in str(refusal)
    assert held < 4 * MEGABYTE


def test_many_small_members_together_are_held_to_the_limit():
    held, refusal = inflated_bytes(packed(bytes(MEGABYTE)) * 50, 2 * MEGABYTE)
    assert refusal.status == 413
    assert held < 6 * MEGABYTE


def test_a_body_of_exactly_the_limit_is_read():
    content = bytes(range(256)) * 64
    whole = packed(content)
    assert decoded_body(whole, b"gzip", len(content)) == content
    with pytest.raises(RequestError, match="at most 16383 are accepted"):
        decoded_body(whole, b"gzip", len(content) - 1)


def test_a_bomb_is_refused_over_the_wire(serve, manifest, engine):
    with serve(manifest(serve=ServeConfig(max_body_mb=0.5)), engine) as server:
        status, answer = ask(server, bomb(4 * MEGABYTE), **GZIP)
        assert status == 413
        assert "serve.max_body_mb" in answer["error"]
        assert ask(server, packed(BODY), **GZIP) == ANSWER


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\xff"])
)
def test_any_bytes_are_decoded_or_refused_in_words(tail, head):
    try:
        decoded_body(head + tail, b"gzip", 1000)
    except RequestError as refusal:
        assert refusal.status in (400, 413)


@given(st.lists(st.binary(max_size=50_000), min_size=1, max_size=4), st.data())
def test_what_gzip_made_is_what_is_read(parts, data):
    """Several members, and cut anywhere."""
    content = b"".join(parts)
    whole = b"".join(map(packed, parts))
    assert decoded_body(whole, b"gzip", len(content)) == content
    ends = {0}
    for part in parts:
        ends.add(max(ends) + len(packed(part)))
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut not in ends:
        with pytest.raises(RequestError, match="too early|not gzip|after the end|cut off"):
            decoded_body(whole[:cut], b"gzip", len(content))
