"""On which rung a trial begins, by the traffic seen before any caller meets the new version."""

from components.deploy.canary.state import CanaryState
from components.deploy.deployment import Deployment
from components.deploy.judging.evidence import Counts, growth
from components.deploy.judging.ladder import Traffic

_SURVEY_SECONDS = 10.0


def traffic_in_shadow(state: CanaryState) -> Traffic | None:
    """Return the traffic that the shadow saw; None without a shadow."""
    for step in state.ladder:
        if step.seconds:
            seen = Counts(step.stable_requests, step.stable_errors, step.stable_client_errors)
            return Traffic.of(seen, step.seconds)
    return None


def survey(deployment: Deployment, champion: int) -> tuple[Traffic, float]:
    """Watch stable for a moment; return its traffic and for how many seconds that took."""
    client, pipeline = deployment.client, deployment.layout.pipeline
    seconds = min(_SURVEY_SECONDS, deployment.config.deploy.min_seconds_per_step)
    before = client.observation(pipeline).of(champion)
    deployment.clock.sleep(seconds)
    seen = growth(before, client.observation(pipeline).of(champion))
    return Traffic.of(seen, seconds), seconds
