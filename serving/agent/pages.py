"""The agent's pages: read-only, so they need no token. They show counts and words, no secrets."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from contract.errors import NotFoundError
from contract.records.rollout import Rollout
from serving.agent.plans import PlanStore
from serving.pages.rollout import HEADERS, empty_page, overview_page, rollout_page

PAGES = "/rollouts"


def pages(plans: PlanStore) -> APIRouter:
    """Return the routes below `/rollouts/`: an overview, and a page for each pipeline."""
    router = APIRouter(prefix=PAGES, include_in_schema=False)

    @router.get("/")
    def overview() -> HTMLResponse:
        return HTMLResponse(overview_page(plans.pipelines()), headers=HEADERS)

    @router.get("/{pipeline}")
    def of_pipeline(pipeline: str) -> HTMLResponse:
        path = plans.layout(pipeline).rollout
        try:
            page = rollout_page(Rollout.read(path), datetime.now(UTC))
        except NotFoundError:
            page = empty_page(pipeline)
        return HTMLResponse(page, headers=HEADERS)

    return router
