"""Keeps the record of a trial on storage up to date, for all who look at it."""

from components.deploy.canary.report import Moment, ended, rollout_of
from components.deploy.canary.state import CanaryState
from components.deploy.deployment import Deployment
from components.deploy.judging.judge import Judgement
from contract.errors import DataError, NotFoundError
from contract.layout import PipelineLayout
from contract.records.rollout import Rollout, RolloutState
from contract.records.traffic import TrafficPlan


class Teller:
    """Writes the Rollout of one trial."""

    def __init__(self, deployment: Deployment) -> None:
        self._d = deployment

    def tell(self, state: CanaryState, judgement: Judgement, moment: Moment) -> None:
        """Write what is known after a look."""
        rollout_of(self._d, state, judgement, moment).write(self._d.layout.rollout)

    def tell_end(self, end: RolloutState, state: CanaryState, percent: int) -> None:
        """Write how the trial ended, and the share of the traffic that the version has now."""
        self._end(end, state.reason, state, percent)

    def tell_stop(self, state: CanaryState) -> None:
        """Write that the controller was asked to end."""
        self._end("stopped", "its process was asked to end; a retry continues it", state, 0)

    def tell_interrupted(self, state: CanaryState, plan: TrafficPlan) -> None:
        """Write that somebody else has changed the traffic."""
        reason = f"{plan.author or 'somebody'} changed the traffic: {plan.reason or 'no reason'}"
        percent = 100 if plan.champion == state.version else 0
        self._end("interrupted", reason, state, percent)

    def _end(self, end: RolloutState, reason: str, state: CanaryState, percent: int) -> None:
        known = last_rollout(self._d.layout, state.version)
        if known is None:
            return  # it was decided by an older Slipway, which wrote none
        known = known.model_copy(update={"events": state.events, "hold": None})
        ended(known, end, reason, percent, self._d.clock.now()).write(self._d.layout.rollout)


def last_rollout(layout: PipelineLayout, version: int) -> Rollout | None:
    """Return what is stored of a version's trial; None if nothing is, or of another version."""
    try:
        rollout = Rollout.read(layout.rollout)
    except (DataError, NotFoundError):
        return None
    return rollout if rollout.version == version else None


def tell_promotion(deployment: Deployment, reason: str) -> None:
    """Write that the version of the last trial has all traffic; nothing if it was not tried."""
    known, now = last_rollout(deployment.layout, deployment.version), deployment.clock.now()
    if known is not None:
        ended(known, "promoted", reason, 100, now).write(deployment.layout.rollout)
