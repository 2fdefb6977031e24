"""What a person may tell a trial, in which state; no agent answers, so nothing is carried out."""

import pytest

from cli.rollouts.orders import abort, pause, resume
from components.runs.agent_client import AgentClient
from contract.errors import UserError
from contract.layout import PipelineLayout
from contract.records.traffic import Arm, Hold, Shadow, TrafficPlan

STABLE = Arm(name="stable", version=1, weight_percent=100)
SERVED = TrafficPlan(pipeline="digits", arms=(STABLE,))
SHADOWED = SERVED.model_copy(update={"shadow": Shadow(version=2, percent=100)})
ON_TRIAL = TrafficPlan(
    pipeline="digits",
    arms=(
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=2, weight_percent=5),
    ),
)
HELD = ON_TRIAL.model_copy(update={"hold": Hold(version=2, weight_percent=5, author="ada")})


@pytest.fixture
def client():
    with AgentClient("http://127.0.0.1:9", "token", patience_seconds=0.1) as client:
        yield client


@pytest.fixture
def layout(tmp_path):
    return PipelineLayout(tmp_path, "digits")


def test_each_says_what_it_will_do(client, layout) -> None:
    assert pause(client, ON_TRIAL, "bob", "").words == (
        "version 2 stays at 5 % until it is resumed: no rung is passed, and failing evidence still "
        "rolls it back"
    )
    assert pause(client, SHADOWED, "bob", "").words.startswith("version 2 stays in shadow")
    assert resume(client, HELD).words == "version 2 continues at 5 %, paused by ada"
    assert abort(client, HELD, layout, "bob").words == (
        "the trial of version 2 ends; version 1 has all traffic"
    )


def test_what_cannot_be_done_is_refused(client, layout) -> None:
    with pytest.raises(UserError, match="nothing to pause"):
        pause(client, SERVED, "bob", "")
    with pytest.raises(UserError, match="ada has paused this trial already"):
        pause(client, HELD, "bob", "")
    with pytest.raises(UserError, match="nothing to resume"):
        resume(client, ON_TRIAL)
    with pytest.raises(UserError, match="nothing to abort; 'slipway rollback digits' returns to"):
        abort(client, SERVED, layout, "bob")
