"""The control API of trials: what is known of one, and a person's pause of it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field

from contract.records.rollout import Rollout
from contract.records.traffic import TrafficPlan
from serving.agent.plans import PlanStore, WithdrawalOrder


def _whole(text: str) -> str:
    text.encode()  # JSON may hold half a character, which no file can
    return text


_MOST_CHARACTERS = 2000
Words = Annotated[str, Field(max_length=_MOST_CHARACTERS), AfterValidator(_whole)]


class Order(BaseModel):
    """Who pauses a trial, and why."""

    author: Words
    reason: Words = ""


def trials(plans: PlanStore, wake: Callable[[], None]) -> APIRouter:
    """Return the routes; `wake` is called after a plan was stored."""
    router = APIRouter(prefix="/v1/pipelines/{pipeline}")

    @router.get("/rollout")
    def rollout(pipeline: str) -> Rollout:
        return Rollout.read(plans.layout(pipeline).rollout)

    @router.put("/hold")
    def pause(pipeline: str, order: Order) -> TrafficPlan:
        stored = plans.pause(pipeline, order.author, order.reason)
        wake()
        return stored

    @router.delete("/trial")
    def withdraw(pipeline: str, author: Words, by: Words, reason: Words) -> TrafficPlan:
        stored = plans.withdraw_for_good(pipeline, WithdrawalOrder(author, by, reason))
        wake()
        return stored

    @router.delete("/hold")
    def resume(pipeline: str) -> TrafficPlan:
        stored = plans.resume(pipeline)
        wake()
        return stored

    return router
