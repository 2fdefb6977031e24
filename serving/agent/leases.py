"""A trial is a lease: when its controller stops calling, its traffic goes back to stable.

Each call of a controller carries the plan's author and renews the lease. How long a controller has
been silent is measured by the monotonic clock. An agent that has just started takes that time from
the stored plan and from the time of the last look in the rollout's record, and gives a controller
that may have waited for this agent some seconds to call.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response

from contract.addresses import AUTHOR_HEADER
from contract.errors import DataError, NotFoundError, SlipwayError
from contract.records.rollout import MOST_EVENTS, Rollout, RolloutEvent
from contract.records.traffic import TrafficPlan, Withdrawal
from serving.agent.access import Access
from serving.agent.plans import PlanStore

log = logging.getLogger("slipway.agent")

AGENT = "the serving agent"
_RESTART_GRACE_SECONDS = 10.0  # above the pause of a client that waits for an agent
Trial = tuple[str, int]  # author and version


def utc_now() -> datetime:
    """Return the time by the wall clock."""
    return datetime.now(UTC)


class TrialLeases:
    """Knows when each pipeline's controller called last, and withdraws trials of silent ones."""

    def __init__(
        self,
        plans: PlanStore,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._plans = plans
        self._monotonic = monotonic
        self._now = now
        self._heard: dict[str, tuple[str, float]] = {}  # by pipeline: author, when
        self._seen: dict[str, tuple[Trial, float]] = {}  # by pipeline: its trial, since when

    def heard(self, pipeline: str, author: str) -> None:
        """Note that the author of a trial has called."""
        self._heard[pipeline] = (author, self._monotonic())

    def withdraw_silent(self) -> list[TrafficPlan]:
        """Withdraw every trial whose controller was silent for its lease; return the new plans."""
        found = [self._withdrawn(pipeline) for pipeline in self._plans.pipelines()]
        return [plan for plan in found if plan is not None]

    def _withdrawn(self, pipeline: str) -> TrafficPlan | None:
        try:
            plan = self._plans.current(pipeline)
            if plan.trial is None or plan.champion is None:
                self._seen.pop(pipeline, None)
                return None
            if (silent := self._silent_seconds(plan)) <= plan.lease_seconds:
                return None
            reason = f"{plan.author or 'its controller'} has been silent for {silent:.0f} s"
            stored = self._plans.withdraw(plan, AGENT, reason)
        except SlipwayError as error:  # the reconciler reports a damaged plan
            log.debug("%s: its lease cannot be checked: %s", pipeline, error)
            return None
        if stored is not None and stored.withdrawn is not None:
            log.error("%s: %s", pipeline, stored.withdrawn.in_words)
            self._tell(pipeline, stored.withdrawn)
        return stored

    def _silent_seconds(self, plan: TrafficPlan) -> float:
        assert plan.trial is not None
        now, trial = self._monotonic(), (plan.author, plan.trial[0])
        known = self._seen.get(plan.pipeline)
        if known is None or known[0] != trial:
            known = (trial, now - self._silent_before(plan))
            self._seen[plan.pipeline] = known
        author, heard_at = self._heard.get(plan.pipeline, ("", 0.0))
        return now - (max(known[1], heard_at) if author == plan.author else known[1])

    def _silent_before(self, plan: TrafficPlan) -> float:
        """Return for how many seconds the controller was silent when the trial is first seen.

        The records say so, by a wall clock that may have jumped: the result is not negative, and
        leaves the controller time to call.
        """
        signs = [plan.written_at]
        rollout = self._rollout(plan.pipeline)
        if rollout is not None and rollout.author == plan.author:
            signs.append(rollout.looked_at)
        last = max((sign for sign in signs if sign is not None), default=self._now())
        silent = (self._now() - last).total_seconds()
        return max(0.0, min(silent, plan.lease_seconds - _RESTART_GRACE_SECONDS))

    def _rollout(self, pipeline: str) -> Rollout | None:
        try:
            return Rollout.read(self._plans.layout(pipeline).rollout)
        except (DataError, NotFoundError):
            return None

    def _tell(self, pipeline: str, gone: Withdrawal) -> None:
        """Write into the record of the rollout that it has stopped, and why."""
        rollout = self._rollout(pipeline)
        if rollout is None or (rollout.author, rollout.version) != (gone.author, gone.version):
            return
        event = RolloutEvent(
            at=gone.withdrawn_at,
            kind="withdrawn",
            phase=rollout.phase,
            weight_percent=0,
            words=f"by {gone.by}: {gone.reason}",
        )
        changes = {
            "state": "stopped",
            "reason": f"{gone.in_words}; a retry of its run continues it",
            "events": (*rollout.events, event)[-MOST_EVENTS:],
            "canary": rollout.canary.model_copy(update={"weight_percent": 0}),
            "stable": rollout.stable.model_copy(update={"weight_percent": 100}),
        }
        rollout.model_copy(update=changes).write(self._plans.layout(pipeline).rollout)


def hear(app: FastAPI, leases: TrialLeases, access: Access) -> None:
    """Let every call of a trial's author renew the lease, if its token may propose plans.

    Otherwise a token that may only read could keep the trial of a dead judge in force.
    """

    @app.middleware("http")
    async def note_author(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        author = unquote(request.headers.get(AUTHOR_HEADER, ""))
        _, _, kind, pipeline, *_ = (*str(request.scope["path"]).split("/"), "", "", "", "")
        given = request.headers.get("authorization", "")
        if author and kind == "pipelines" and access.may_propose(given, pipeline):
            leases.heard(pipeline, author)
        return await call_next(request)
