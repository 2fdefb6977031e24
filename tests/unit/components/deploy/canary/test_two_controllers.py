"""A trial whose controller is killed again and again, and two controllers at once."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from components.deploy.canary.canary import deploy
from components.deploy.canary.state import STATE_FILE, CanaryState
from contract.errors import NotFoundError
from contract.records.traffic import TrafficPlan

KILLS = 12
LADDER = {"ladder_percent": (5, 50, 100), "ladder": "all", "min_seconds_per_step": 10.0}


class KilledError(Exception):
    """Stands for `kill -9`."""


def weights(plan: TrafficPlan) -> dict[int, int]:
    return {arm.version: arm.weight_percent for arm in plan.arms}


class Mortal:
    """A client of the agent whose process dies after so many answers, whatever was answered."""

    def __init__(self, client, answers):
        self._client, self._left = client, answers

    def __getattr__(self, name):
        def ask(*arguments):
            answer = getattr(self._client, name)(*arguments)
            self._left -= 1
            if not self._left:
                raise KilledError
            return answer

        return ask


def test_twelve_kills_at_any_moment_promote_nothing_and_lose_no_count(served, make_deployment):
    deployment, random = make_deployment(shadow_requests=50, **LADDER), np.random.default_rng(0)
    counted = (0, 0)
    for _ in range(KILLS):
        mortal = Mortal(deployment.client, int(random.integers(1, 25)))
        with pytest.raises(KilledError):
            deploy(dataclasses.replace(deployment, client=mortal))
        assert served.plan.champion == 1
        assert weights(served.plan) in ({1: 100}, {1: 95, 2: 5}, {1: 50, 2: 50}, {1: 5, 2: 95})
        try:
            state = CanaryState.read(deployment.output / STATE_FILE)
        except NotFoundError:  # killed before it had begun
            continue
        now = (state.phase, state.canary.requests)
        assert now >= counted
        counted = now
    assert counted > (0, 0)
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    assert [step.name for step in record.ladder] == ["shadow", "5 %", "50 %", "95 %"]
    state = CanaryState.read(deployment.output / STATE_FILE)
    # each phase has paid its stake once: they sum to 1, and nobody failed
    assert state.accounts.evidence()["errors"] == pytest.approx(1.0)


def test_of_two_controllers_that_begin_at_once_one_tries_and_the_other_leaves_it_alone(
    served, make_deployment
):
    """Both have read the plan in which nobody is on trial; only then one of them is first."""
    both = threading.Barrier(2)
    met = threading.Event()

    def meet(_):
        if not met.is_set():
            both.wait(timeout=120)
            met.set()

    served.before_proposal = meet
    deployments = [make_deployment(version, shadow_requests=0, **LADDER) for version in (2, 3)]
    with ThreadPoolExecutor(2) as pool:
        records = [record for record, _ in pool.map(deploy, deployments)]
    assert sorted(record.outcome for record in records) == ["passed", "refused"]
    (passed,) = (record for record in records if record.outcome == "passed")
    (refused,) = (record for record in records if record.outcome == "refused")
    assert f"run r{passed.version} changed the traffic plan" in refused.reasons[0]
    assert weights(served.plan) == {1: 5, passed.version: 95}
    tried = {arm.version for plan in served.plans for arm in plan.arms}
    assert tried == {1, passed.version}
