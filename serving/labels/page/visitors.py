"""Who asks for a page: holders of tokens with a right that opens one, and nobody else."""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from fastapi import Request

from contract.records.access import AgentToken, Right
from serving.token_file import TokenFile

COOKIE = "slipway_labels"
PAGE_RIGHTS: tuple[Right, ...] = ("label", "review", "read")  # each opens pages of its own
_RIGHTS: tuple[Right, ...] = (*PAGE_RIGHTS, "report")  # who reports sees no page

_PSEUDONYM = 5  # characters of 5 bits: of 100 people two are the same once in 6,800


@dataclass(frozen=True)
class Visitor:
    """Somebody with a token. `mark` is what a form must send back.

    It is None for a program, which has no cookie.
    """

    token: AgentToken
    mark: str | None

    @property
    def name(self) -> str:
        return self.token.name


@dataclass(frozen=True)
class Refused:
    """Why somebody gets nothing, and the status that says so."""

    status: int
    words: str
    was_token_sent: bool = False


class Visitors:
    """Knows people by their token: programs send it in a header, browsers a cookie made of it.

    The cookie is the token's digest, signed: whoever reads a browser's cookies has no token, and
    the cookie ends with the token.
    """

    def __init__(self, tokens: TokenFile, secret: str) -> None:
        self._tokens = tokens
        self._secret = secret.encode()

    def who(self, request: Request) -> Visitor | Refused:
        """Return who asks, or why they are refused."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return _visitor(self._tokens.find(given), None, bool(given), _RIGHTS)
        cookie = request.cookies.get(COOKIE, "")
        digest = cookie.partition("|")[0]
        is_ours = hmac.compare_digest(cookie.encode(), self._cookie(digest).encode())
        token = self._tokens.with_digest(digest) if is_ours else None
        return _visitor(token, self._signed("mark", digest), was_sent=bool(cookie))

    def log_in(self, given: str) -> str | Refused:
        """Return the cookie of who has this token."""
        found = _visitor(self._tokens.find(given), None, was_sent=bool(given))
        return found if isinstance(found, Refused) else self._cookie(found.token.digest)

    def pseudonym(self, name: str) -> str:
        """Return what stands for a person's name: always the same, and nobody can tell whose."""
        signed = bytes.fromhex(self._signed("pseudonym", name))
        return base64.b32encode(signed).decode()[:_PSEUDONYM]

    def _cookie(self, digest: str) -> str:
        return f"{digest}|{self._signed('cookie', digest)}"

    def _signed(self, use: str, digest: str) -> str:
        """Return what nobody else can make; a page of another site cannot see it either."""
        return hmac.new(self._secret, f"{use}|{digest}".encode(), hashlib.sha256).hexdigest()


def _visitor(
    token: AgentToken | None,
    mark: str | None,
    was_sent: bool,
    rights: tuple[Right, ...] = PAGE_RIGHTS,
) -> Visitor | Refused:
    if token is None:
        words = "Log in with the token that 'slipway token add' has printed."
        if was_sent:
            words = f"This token is wrong, or was removed. {words}"
        return Refused(401, words, was_token_sent=was_sent)
    if not {*rights} & {*token.rights}:
        pages = " or ".join(rights)
        words = f"Token '{token.name}' may not {pages}: it has {', '.join(token.rights)}."
        return Refused(403, words, was_token_sent=True)
    return Visitor(token, mark)


def is_from_elsewhere(request: Request) -> bool:
    """Tell whether a browser says that another site's page has sent this."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


def is_forged(request: Request, visitor: Visitor, mark: str) -> bool:
    """Tell whether a change may come from another site's page than ours."""
    if visitor.mark is None:
        return False
    return is_from_elsewhere(request) or not hmac.compare_digest(
        mark.encode(), visitor.mark.encode()
    )
