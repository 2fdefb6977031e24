"""What web pages of other origins may do: the answers to OPTIONS, and headers for browsers.

Source: the CORS protocol of https://fetch.spec.whatwg.org. Browsers send a preflight (OPTIONS)
without a token; it is answered without one and says nothing about the model.
"""

from collections.abc import Collection, Sequence

from serving.server.http.messages import Request

_ANY = "*"
_ALLOWED_HEADERS = "authorization, content-encoding, content-type, x-request-id, x-server-timing"
_EXPOSED_HEADERS = "retry-after, server-timing, x-request-id, x-slipway-version"
_MAX_AGE_SECONDS = 600


class CrossOrigin:
    """Answers to browsers by the origins that the config allows; none is the default."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Allow pages of these origins, such as `https://app.example.org`; `*` is any."""
        self._is_any = _ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, request: Request) -> bytes:
        """Return the header lines that let a page read an answer; none if it may not."""
        if not self._origins:
            return b""
        allowed = self._allowed(request)
        return allowed + f"access-control-expose-headers: {_EXPOSED_HEADERS}\r\n".encode()

    def options(self, request: Request, methods: Collection[bytes]) -> bytes:
        """Return what an answer to OPTIONS on a path with these methods has besides `headers`."""
        names = b", ".join((*methods, b"OPTIONS"))
        lines = b"allow: %b\r\n" % names
        if not self._origins or b"access-control-request-method" not in request.headers:
            return lines
        preflight = (
            f"access-control-allow-headers: {_ALLOWED_HEADERS}\r\n"
            f"access-control-max-age: {_MAX_AGE_SECONDS}\r\n"
        )
        lines += b"access-control-allow-methods: %b\r\n" % names
        return lines + preflight.encode()

    def _allowed(self, request: Request) -> bytes:
        if self._is_any:
            return b"access-control-allow-origin: *\r\n"
        origin = request.headers.get(b"origin", b"")
        if origin not in self._origins:
            return b"vary: origin\r\n"
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
