"""The content-encoding of a request's body: gzip, with a limit before anything is inflated."""

import zlib

from serving.server.http.messages import RequestError

_GZIP_NAMES = frozenset((b"gzip", b"x-gzip"))  # RFC 9110 8.4.1.3 has both
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's header and checksum
_CHUNK_BYTES = 16 * 1024
# A member may be empty, and each costs a decompressor: bgzip, which makes the most, needs one for
# each 64 KiB of content.
_MOST_MEMBERS = 4096


def decoded_body(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """Return the body of a request without its content-encoding.

    At most `max_bytes` are inflated, whatever the body claims to be.

    Raises:
        RequestError: 415 for an encoding other than gzip, 413 for more than `max_bytes`, 400 for
            what is not gzip, or not all of it.
    """
    names = [name for part in encoding.split(b",") if (name := part.strip().lower())]
    names = [name for name in names if name != b"identity"]
    if not names:
        return body
    if len(names) > 1 or names[0] not in _GZIP_NAMES:
        raise RequestError(
            415,
            f"content-encoding '{encoding.decode('latin-1')}': expected gzip, or none",
            {"accept-encoding": "gzip, identity"},
        )
    return _inflated(body, max_bytes)


def is_gzip(body: bytes) -> bool:
    """Tell whether a body looks like gzip."""
    return body.startswith(_GZIP_MAGIC)


def _inflated(body: bytes, max_bytes: int) -> bytes:
    if not is_gzip(body):
        raise RequestError(400, "body: content-encoding is gzip, but the body is not gzip")
    _check_announced(body, max_bytes)
    parts: list[bytes] = []
    size = start = 0
    for _ in range(_MOST_MEMBERS):
        content, start = _member(body, start, max_bytes - size)
        parts.append(content)
        size += len(content)
        if start == len(body):
            return b"".join(parts)
        if not body.startswith(_GZIP_MAGIC, start):
            raise RequestError(400, "body: data after the end of the gzip; send the gzip only")
    raise RequestError(400, f"body: more than {_MOST_MEMBERS} gzip members; send one")


def _check_announced(body: bytes, max_bytes: int) -> None:
    """Refuse a body by the size that its last member announces, before anything is inflated.

    The size is not trusted: one that says less than it holds is refused while it is inflated. What
    deflate cannot reach (1032 times its size) is not a size: the body is cut off.
    """
    announced = int.from_bytes(body[-4:], "little")  # modulo 2**32
    if max_bytes < announced <= 1032 * len(body):
        raise RequestError(
            413,
            f"the gzip body says that it inflates to {announced} bytes, at most {max_bytes} are "
            "accepted (serve.max_body_mb); or it is cut off",
        )


def _member(body: bytes, start: int, most: int) -> tuple[bytes, int]:
    """Return what the member that begins at `start` holds, and where it ends."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    parts: list[bytes] = []
    size, chunk = 0, b""
    while not inflater.eof:
        if not chunk:
            chunk = body[start : start + _CHUNK_BYTES]
            start += len(chunk)
        if not chunk:
            raise RequestError(400, "body: the gzip ends too early; send it completely")
        try:
            parts.append(inflater.decompress(chunk, most - size + 1))
        except zlib.error as error:
            raise RequestError(400, f"body: broken gzip: {error}") from error
        chunk = inflater.unconsumed_tail
        size += len(parts[-1])
        if size > most:
            raise RequestError(
                413,
                "the gzip body inflates to more than is accepted (serve.max_body_mb); inflating "
                "stopped there",
            )
    return b"".join(parts), start - len(inflater.unused_data)
