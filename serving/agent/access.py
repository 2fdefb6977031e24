"""Who may do what on the control API: its owner everything, others what their record says."""

import hmac
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from contract.records.access import ALL_PIPELINES, Right
from serving.token_file import TokenFile

_OF_PIPELINE = re.compile(r"/v1/pipelines/([^/]+)/(plan|observation|rollout|trial|hold)")
_RIGHTS: dict[tuple[str, str], Right] = {
    ("GET", "plan"): "read",
    ("GET", "observation"): "read",
    ("GET", "rollout"): "read",
    ("PUT", "plan"): "propose",
    ("DELETE", "trial"): "propose",
    ("PUT", "hold"): "approve",
    ("DELETE", "hold"): "approve",
}

Refusal = tuple[int, str]


def ask_for_rights(app: FastAPI, access: "Access", open_to_all: tuple[str, ...]) -> None:
    """Let the app refuse what a caller's token does not allow, except paths that begin so."""

    @app.middleware("http")
    async def check(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        path = str(request.scope["path"])
        if not path.startswith(open_to_all):
            given = request.headers.get("authorization", "")
            if refusal := access.refusal(given, request.method, path):
                status, words = refusal
                return JSONResponse({"error": words}, status_code=status)
        return await call_next(request)


class Access:
    """Knows the tokens; the file of those besides the owner's is read again when it changes."""

    def __init__(self, owner: str, tokens_file: Path | None = None) -> None:
        self._owner = f"Bearer {owner}".encode()
        self._tokens = TokenFile(tokens_file)

    def refusal(self, authorization: str, method: str, path: str) -> Refusal | None:
        """Return status and words for what may not be done; None for what may."""
        if hmac.compare_digest(authorization.encode(), self._owner):
            return None
        scheme, _, given = authorization.partition(" ")
        token = self._tokens.find(given) if scheme == "Bearer" else None
        if token is None:
            return 401, "expected the header 'Authorization: Bearer <the agent's token>'"
        right, pipeline = needed(method, path)
        if right is None:
            return 403, f"token '{token.name}': {method} {path} is the owner's alone"
        if not token.may(right, pipeline):
            whose = "all pipelines" if pipeline == ALL_PIPELINES else f"pipeline '{pipeline}'"
            return 403, (
                f"token '{token.name}': the right '{right}' for {whose} is missing; it has "
                f"{token.in_words} ('slipway token add' makes one with other rights)"
            )
        return None

    def may_propose(self, authorization: str, pipeline: str) -> bool:
        """Tell whether a caller may change a pipeline's plan."""
        return self.refusal(authorization, "PUT", f"/v1/pipelines/{pipeline}/plan") is None


def needed(method: str, path: str) -> tuple[Right | None, str]:
    """Return the right that a request needs, and for which pipeline; None: it is the owner's."""
    if (method, path) == ("GET", "/v1/pipelines"):
        return "read", ALL_PIPELINES
    found = _OF_PIPELINE.fullmatch(path)
    if found is None:
        return None, ""
    return _RIGHTS.get((method, found[2])), found[1]
