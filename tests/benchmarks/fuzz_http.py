"""Damaged requests over HTTP: JSON, bytes, heads, chunks, gzip, and frames of HTTP/2."""

import gzip
import random
import struct
from collections.abc import Callable, Sequence

from bench_envoy import BODY, PATH, PIPELINE
from fuzz_models import any_signature

_NUMBERS = ("NaN", "1e999", "-0", "9" * 400, "1.5", "-1", "true", "null", '"1"', "[]", "{}", "[1]")
_HEADERS = (
    "content-encoding: gzip",
    "content-length: 5",
    "content-length: -1",
    "expect: 100-continue",
    "host: other",
    "origin: https://a.example",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "upgrade: h2c\r\nconnection: upgrade",
    "x-request-id: " + "a" * 300,
    "inference-header-content-length: 60",
    "x-slipway-arm: canary",
    "x_under: 1",
    "x-bin: \x01\x7f",
)
_PLAN_KEYS = (
    *("generation", "record_version", "lease_seconds", "standby", "sticky_header"),
    *("author", "reason", "written_at", "hold", "bad", "champions", "withdrawn"),
)
SERVER_PATHS = (
    PATH,
    f"/v1/models/{PIPELINE}",
    f"/v1/models/{PIPELINE}/metadata",
    f"/v1/models/{PIPELINE}/versions/1:predict",
    f"/v1/models/{PIPELINE}/versions/{'9' * 60}:predict",
    f"/v1/models/{PIPELINE}/labels/stable:classify",
    f"/v1/models/{PIPELINE}:regress",
    f"/v2/models/{PIPELINE}",
    f"/v2/models/{PIPELINE}/infer",
    f"/v2/models/{PIPELINE}/versions/1/infer",
    "/v2/health/ready",
    "/v1/models/../../etc/passwd",
    "/%2e%2e/%00",
    "*",
    "/" + "a" * 9000,
    "http://x/v1/models/digits:predict",
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Make = Callable[[random.Random], bytes]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, repeat or swap bytes."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(made) + 1)
        until = min(len(made), at + chance.randrange(1, 30))
        kind = chance.randrange(4)
        if kind == 0:
            made[at:until] = chance.randbytes(until - at)
        elif kind == 1:
            del made[at:until]
        elif kind == 2:
            made[at:at] = made[at:until] * chance.randrange(1, 50)
        elif made:
            made[chance.randrange(len(made))] = chance.choice(b'\0\r\n"{}[],:\\\x80\xff')
    return bytes(made)


def json_body(chance: random.Random) -> bytes:
    """Return a body that is JSON, or nearly, of a form that the server may not expect."""
    kind, value = chance.randrange(11), chance.choice(_NUMBERS)
    if kind == 0:
        return damaged(BODY.encode(), chance)
    if kind == 1:
        return f'{{"instances": [{{"x": {value}}}]}}'.encode()
    if kind == 2:
        return ("[" * chance.randrange(1, 20_000)).encode()
    if kind == 3:
        rows = ", ".join(['{"x": 1.0}'] * chance.randrange(1, 3000))
        return f'{{"instances": [{rows}]}}'.encode()
    if kind == 4:
        name = chance.choice(("x", "y", "", "x" * 5000, "\\ud800", "__proto__"))
        return f'{{"inputs": {{"{name}": [{value}]}}}}'.encode()
    if kind == 5:
        return f'{{"instances": [{{"x": {{"b64": "{"A" * chance.randrange(9)}"}}}}]}}'.encode()
    if kind in (9, 10):
        return _odd_inputs(chance).encode()
    if kind >= 7:
        tensor = f'{{"name": "x", "datatype": "FP32", "shape": [{value}], "data": [{value}]}}'
        whole = f'{{"inputs": [{tensor}], "parameters": {{"binary_data_output": {value}}}}}'
        return whole.encode() if kind == 7 else damaged(whole.encode(), chance)
    return f'{{"signature_name": {value}, "instances": {value}, "examples": {value}}}'.encode()


def _odd_inputs(chance: random.Random) -> str:
    """Return inputs of the models, with values that do not fit them or each other."""
    signature, names = any_signature(chance)
    form = chance.choice(('"inputs": {%s}', '"instances": [{%s}, {"x": 1}]', '"examples": [{%s}]'))
    content = form % ", ".join(f'"{name}": {_nested(chance, 3)}' for name in names)
    context = ', "context": {"x": 1}' if chance.random() < 0.1 else ""
    return f'{{"signature_name": "{signature}", {content}{context}}}'


def _nested(chance: random.Random, depth: int) -> str:
    """Return a value, or lists in lists whose lengths and types may differ."""
    if depth == 0 or chance.random() < 0.3:
        fits = ("1", "2", "0", "7", '"1.5"', '"word"', '{"b64": "MQ=="}')
        return chance.choice(_NUMBERS if chance.random() < 0.1 else fits)
    lists = [_nested(chance, depth - 1)] * chance.choice((0, 1, 1, 2, 3))
    if not lists or chance.random() < 0.2:
        lists.append(_nested(chance, depth - 1))
    return f"[{', '.join(lists)}]"


def plan_body(chance: random.Random) -> bytes:
    """Return a traffic plan, or an order to hold one, with a value that does not fit."""
    key, value = (
        chance.choice(_PLAN_KEYS),
        chance.choice((*_NUMBERS, '"\\ud800"', '"a b"', "0", "2")),
    )
    arm = '{"name": "stable", "version": 1, "weight_percent": 100}'
    shadow = f'{{"version": 1, "percent": 1, "max_concurrent_requests": {value}}}'
    plan = f'{{"pipeline": "{PIPELINE}", "arms": [{arm}], "{key}": {value}, "shadow": {shadow}}}'
    whole = chance.choice((plan, plan, f'{{"author": {value}, "reason": "x"}}', "[" * 9000))
    return damaged(whole.encode(), chance) if chance.random() < 0.2 else whole.encode()


def http1(
    paths: tuple[str, ...],
    token: str,
    make_body: Callable[[random.Random], bytes] = json_body,
    usual: str = "POST",
    kept_headers: Sequence[str] = (),
) -> Make:
    """Return what makes requests of HTTP/1.1, with the usual method mostly."""

    def make(chance: random.Random) -> bytes:
        body = make_body(chance)
        odd = chance.sample(_HEADERS, chance.choice((0, 0, 1, 2)))
        headers = ["host: x", *kept_headers, *odd]
        if token:
            headers.append(f"authorization: Bearer {token}")
        framing = chance.randrange(8)
        if framing == 0:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) + chance.choice((0, 0, 1, -1)), body)
            headers.append("transfer-encoding: chunked")
        elif framing == 1:
            body = damaged(gzip.compress(body), chance) if chance.random() < 0.7 else body
            headers += ["content-encoding: gzip", f"content-length: {len(body)}"]
        else:
            headers.append(f"content-length: {len(body)}")
        method = chance.choice(
            (usual,) * 8 + ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT")
        )
        first = f"{method} {chance.choice((paths[0], *paths))} HTTP/1.1"
        whole = "\r\n".join([first, *headers]).encode("latin-1") + b"\r\n\r\n" + body
        return damaged(whole, chance) if chance.random() < 0.3 else whole

    return make


def http2(chance: random.Random) -> bytes:
    """Return the preface and frames of any type, flags, stream and size (RFC 9113, 4.1)."""
    frames = [_PREFACE, b"\0\0\0\4\0\0\0\0\0"]
    for _ in range(chance.randrange(1, 8)):
        payload = chance.randbytes(chance.choice((0, 4, 5, 6, 8, 100, 5000)))
        head = struct.pack("!I", len(payload))[1:] + bytes([chance.randrange(12)])
        head += bytes([chance.choice((0, 1, 4, 5, 8, 0x20, 0xFF))])
        frames.append(head + struct.pack("!I", chance.choice((0, 1, 1, 2, 3, 1 << 31))) + payload)
    whole = b"".join(frames)
    return damaged(whole, chance) if chance.random() < 0.2 else whole
