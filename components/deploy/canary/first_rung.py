"""On which rung a trial begins, by the traffic seen before any caller meets the new version."""

from components.deploy.canary.state import CanaryState
from components.deploy.deployment import Deployment
from components.deploy.judging.evidence import Counts, growth
from components.deploy.judging.ladder import Traffic

_SURVEY_SECONDS, _LONGEST_SURVEY_SECONDS, _SURVEY_REQUESTS = 10.0, 60.0, 200


def traffic_in_shadow(state: CanaryState, allowed_error_ratio: float) -> Traffic | None:
    """Return the traffic that the shadow saw; None without a shadow."""
    for step in state.ladder:
        if step.seconds:
            seen = Counts(step.stable_requests, step.stable_errors, step.stable_client_errors)
            return Traffic.of(seen, step.seconds, allowed_error_ratio)
    return None


def survey(deployment: Deployment, champion: int) -> tuple[Traffic, float]:
    """Watch stable for a moment; return its traffic and for how many seconds that took."""
    client, pipeline = deployment.client, deployment.layout.pipeline
    config = deployment.config.deploy
    before = client.observation(pipeline).of(champion)
    longest = min(_LONGEST_SURVEY_SECONDS, config.min_seconds_per_step)
    counted, seconds = Counts(), 0.0
    while counted.requests < _SURVEY_REQUESTS and seconds < longest:
        part = min(_SURVEY_SECONDS, longest - seconds)
        deployment.clock.sleep(part)
        seen = client.observation(pipeline).of(champion)
        counted += growth(before, seen)
        before, seconds = seen, seconds + part
    return Traffic.of(counted, seconds, config.allowed_error_ratio), seconds
