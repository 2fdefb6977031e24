"""The endpoints: Flagger's webhooks and Argo Rollouts' metric provider `web`.

Flagger reads the status: 200 is yes, anything else is no, and its text is shown in the canary's
events. So every fault says no: it raises no weight, promotes nothing and rolls nothing back.

Source:
    docs.flagger.app/usage/webhooks; argo-rollouts.readthedocs.io, Analysis, Web.
"""

import hmac
import json
from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from contract.errors import ServiceUnavailableError, SlipwayError
from contract.records.advice import Advice
from contract.strict_json import once
from serving.short_bodies import BodyLimit, explain

_NO = 403  # as Flagger's own gates say it
_MOST_BYTES = 256 * 1024


class Judge(Protocol):
    """Who answers; what is given is flat: counts or queries by name."""

    def ask(self, given: Mapping[str, Any], is_raise: bool) -> Advice:
        """Return what is to be done; with `is_raise` a pass begins the next rung."""
        ...

    def begin(self, given: Mapping[str, Any]) -> None:
        """Let a rollout begin now."""
        ...


class Webhook(BaseModel):
    """What Flagger posts."""

    name: str
    namespace: str
    checksum: str = ""
    metadata: dict[str, Any] = {}

    def given(self) -> dict[str, Any]:
        """Return the question in it."""
        rollout = {"rollout": f"{self.namespace}/{self.name}", "revision": self.checksum}
        return {**rollout, **{k: v for k, v in self.metadata.items() if k != "token"}}


def advice_api(judge: Judge, token: str) -> FastAPI:
    """Return the app. The token comes as a bearer token or, from Flagger, in its metadata."""
    app = FastAPI(title="Slipway judge", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit, most_bytes=_MOST_BYTES)
    app.add_exception_handler(RequestValidationError, explain)

    @app.exception_handler(SlipwayError)
    async def refuse(_request: Request, error: SlipwayError) -> Response:
        status = 503 if isinstance(error, ServiceUnavailableError) else 422
        return JSONResponse({"error": str(error)}, status_code=status)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/flagger/{hook}")
    async def flagger(hook: str, webhook: Webhook, request: Request) -> Response:
        if not _is_known(request, token, webhook.metadata.get("token")):
            return _unknown()
        return await run_in_threadpool(_answer_flagger, judge, hook, webhook.given())

    @app.post("/argo/measurement")
    async def argo(request: Request) -> Response:
        if not _is_known(request, token):
            return _unknown()
        given = _object(await request.body())
        if given is None:
            return JSONResponse(
                {"error": "expected a JSON object with each key once"}, status_code=422
            )
        advice = await run_in_threadpool(judge.ask, given, False)
        return JSONResponse({"data": advice.model_dump(mode="json")})

    return app


def _answer_flagger(judge: Judge, hook: str, given: Mapping[str, Any]) -> Response:
    """Answer one of Flagger's hooks; 200 is yes."""
    if hook == "confirm-rollout":
        judge.begin(given)
        return PlainTextResponse("the trial begins")
    if hook not in ("confirm-traffic-increase", "confirm-promotion", "rollback"):
        return PlainTextResponse(f"no hook '{hook}' here", status_code=404)
    advice = judge.ask(given, hook == "confirm-traffic-increase")
    wanted = "fail" if hook == "rollback" else "pass"
    status = 200 if advice.decision == wanted else _NO
    return PlainTextResponse(f"{advice.decision}: {advice.reason}", status_code=status)


def _is_known(request: Request, token: str, sent: object = None) -> bool:
    given = request.headers.get("authorization", "").encode()
    is_bearer = hmac.compare_digest(given, f"Bearer {token}".encode())
    is_sent = isinstance(sent, str) and hmac.compare_digest(_bytes(sent), token.encode())
    return is_bearer or is_sent


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold half a character


def _unknown() -> Response:
    said = "expected the judge's token: 'Authorization: Bearer', or 'token' in Flagger's metadata"
    return JSONResponse({"error": said}, status_code=401)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
