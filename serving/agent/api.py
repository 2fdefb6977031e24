"""The control API: plans are read and proposed, and what is seen of them is told."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from contract.errors import (
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)
from contract.records.traffic import Observation, TrafficPlan
from serving.agent.metrics import exposition
from serving.agent.pages import PAGES, pages
from serving.agent.plans import PlanStore
from serving.agent.trials import trials

DISCOVERY = "/v3"  # Envoys ask below it, with a separate token
_MAX_PLAN_BYTES = 64 * 1024
# The first class that fits says the status.
_STATUS: tuple[tuple[type[SlipwayError], int], ...] = (
    (NotFoundError, 404),
    (UserError, 422),
    (ConflictError, 409),
    (ServiceUnavailableError, 503),
    (SlipwayError, 500),
)


def control_api(
    plans: PlanStore,
    token: str,
    observe: Callable[[str], Observation],
    wake: Callable[[], None],
) -> FastAPI:
    """Return the API; `wake` is called after a plan was stored."""
    # no interactive pages: they would load scripts from elsewhere
    app = FastAPI(title="Slipway serving agent", docs_url=None, redoc_url=None)

    open_to_all = ("/healthz", "/metrics", f"{DISCOVERY}/", f"{PAGES}/")
    ask_for_token(app, token, "the agent's", open_to_all)
    app.include_router(pages(plans))
    app.include_router(trials(plans, wake))

    @app.exception_handler(SlipwayError)
    async def refuse(_request: Request, error: SlipwayError) -> Response:
        return _error(next(code for kind, code in _STATUS if isinstance(error, kind)), str(error))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(exposition(plans), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/pipelines")
    def pipelines() -> dict[str, list[str]]:
        return {"pipelines": plans.pipelines()}

    @app.get("/v1/pipelines/{pipeline}/plan")
    def read_plan(pipeline: str) -> TrafficPlan:
        return plans.current(pipeline)

    @app.put("/v1/pipelines/{pipeline}/plan")
    async def propose_plan(pipeline: str, request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_propose, plans, pipeline, body, wake)

    @app.get("/v1/pipelines/{pipeline}/observation")
    def observation(pipeline: str) -> Observation:
        plans.layout(pipeline)
        return observe(pipeline)

    return app


def ask_for_token(app: FastAPI, token: str, whose: str, open_to_all: tuple[str, ...] = ()) -> None:
    """Let the app refuse requests without the bearer token, except paths that begin so."""

    @app.middleware("http")
    async def check_token(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        given = request.headers.get("authorization", "").encode()
        is_known = hmac.compare_digest(given, f"Bearer {token}".encode())
        if not is_known and not request.url.path.startswith(open_to_all):
            return _error(401, f"expected the header 'Authorization: Bearer <{whose} token>'")
        return await call_next(request)


def _propose(plans: PlanStore, pipeline: str, body: bytes, wake: Callable[[], None]) -> Response:
    try:
        plan = TrafficPlan.model_validate_json(body[:_MAX_PLAN_BYTES])
    except ValidationError as error:
        return _error(422, f"not a traffic plan: {error}")
    if plan.pipeline != pipeline:
        return _error(422, f"the plan is of pipeline '{plan.pipeline}', expected '{pipeline}'")
    try:
        stored = plans.propose(plan)
    except ConflictError as conflict:
        current = plans.current(pipeline).model_dump(mode="json")
        return JSONResponse({"error": str(conflict), "plan": current}, status_code=409)
    except NotFoundError as error:  # a version: the address itself is right
        return _error(422, str(error))
    wake()
    return JSONResponse(stored.model_dump(mode="json"))


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
