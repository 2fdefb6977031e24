"""The control API: plans are read and proposed, and what is seen of them is told."""

import json
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from contract.errors import (
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)
from contract.records.traffic import Observation, TrafficPlan
from contract.strict_json import once
from serving.agent.access import Access, ask_for_rights
from serving.agent.leases import TrialLeases, hear
from serving.agent.metrics import exposition
from serving.agent.pages import PAGES, pages
from serving.agent.plans import PlanStore
from serving.agent.trials import trials
from serving.short_bodies import BodyLimit, explain

DISCOVERY = "/v3"  # Envoys ask below it, with a separate token
_MOST_BYTES = 1 << 20  # of a body; an Envoy says with each question what it is made of
_MOST_CHARACTERS = 2000  # of an error
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
    access: Access,
    observe: Callable[[str], Observation],
    wake: Callable[[], None],
    leases: TrialLeases,
) -> FastAPI:
    """Return the API; `wake` is called after a plan was stored, `leases` hear the judges."""
    # no interactive pages: they would load scripts from elsewhere
    app = FastAPI(title="Slipway serving agent", docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, most_bytes=_MOST_BYTES)
    app.add_exception_handler(RequestValidationError, explain)

    open_to_all = ("/healthz", "/metrics", f"{DISCOVERY}/", f"{PAGES}/")
    hear(app, leases, access)
    ask_for_rights(app, access, open_to_all)  # before: what is added later is first
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


def _propose(plans: PlanStore, pipeline: str, body: bytes, wake: Callable[[], None]) -> Response:
    try:
        plan = TrafficPlan.model_validate_json(body)
        json.loads(body, object_pairs_hook=once)
    except ValueError as error:
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
    cut = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
    return JSONResponse({"error": cut}, status_code=status)
