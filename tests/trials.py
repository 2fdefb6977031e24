"""What the tests of trials share."""

import dataclasses

from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.deployment import Deployment
from components.deploy.plans import Note
from contract.records.traffic import TrafficPlan

PERSON = Note("ada", "because I can")


def weights(plan: TrafficPlan) -> dict[int, int]:
    return {arm.version: arm.weight_percent for arm in plan.arms}


def seldom(world, deployment: Deployment) -> Deployment:
    """Let twenty seconds pass from look to look: hours of traffic in little time."""
    clock = dataclasses.replace(deployment.clock, sleep=lambda _: world.time.sleep(20.0))
    return dataclasses.replace(deployment, clock=clock)


def killed_state(deployment: Deployment) -> CanaryState:
    return CanaryState.read(deployment.output / STATE_FILE)
