import math

import numpy as np
import pytest

from components.deploy.judging.accounts import Accounts, Phase, bound
from components.deploy.judging.consents import Terms
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import judge
from components.deploy.judging.users import log_evidence_of_users
from contract.schema.serving import DeployConfig

CONFIG = DeployConfig(sticky_header="x-user-id", sticky_users=400)
PROVEN = Accounts(
    capital={"errors": (0.0, 1e6, 0.0)}, bad={"errors": 50.0}, bad_seconds={"errors": 40}
)


def rung(errors: int, stable_errors: int = 95) -> Phase:
    """Return a rung of 5 %, 1,000 requests of the canary and 19,000 of stable."""
    return Phase(seconds=60.0, canary=Counts(1_000, errors), stable=Counts(19_000, stable_errors))


def test_twenty_users_who_all_fail_are_no_chance():
    # all 20 who fail are the canary's 20 of 400: 1 of C(400, 20), to the leading order
    # 400 (0.05 ln(1 / 0.05) + 0.95 ln(1 / 0.95))
    expected = 400 * (0.05 * math.log(20) + 0.95 * math.log(1 / 0.95))
    found = log_evidence_of_users(1.0, 0.0, 400, 0.05)
    assert found == pytest.approx(expected)
    assert found == pytest.approx(math.log(math.comb(400, 20)), rel=0.05)


@pytest.mark.parametrize(("failing", "of_canary"), [(4, 2), (7, 3), (40, 8), (100, 15)])
def test_the_evidence_claims_no_more_than_the_chance_of_such_a_draw(failing, of_canary):
    """Of 400 users some fail always; so many of them or more are among the canary's 20."""
    ways = [
        math.comb(20, n) * math.comb(380, failing - n)
        for n in range(of_canary, min(20, failing) + 1)
    ]
    chance = sum(ways) / math.comb(400, failing)
    of_stable = (failing - of_canary) / 380
    found = log_evidence_of_users(of_canary / 20, of_stable, 400, 0.05)
    assert -math.log(chance) - 2.0 < found < -math.log(chance)


@pytest.mark.parametrize("ratio", [0.0, 0.01])
def test_a_canary_no_worse_than_stable_has_no_evidence_against_its_users(ratio):
    assert log_evidence_of_users(ratio, 0.01, 400, 0.05) == 0.0


def test_one_failing_user_of_twenty_does_not_roll_a_version_back():
    # all errors are of one of the canary's 20 users, who sends a twentieth of its requests
    terms = Terms(CONFIG, sticky_percent=5)
    judgement = judge(rung(50), PROVEN, terms)
    assert (judgement.decision, judgement.decided_by) == ("continue", "users")
    assert "but these may be few users: evidence of users" in judgement.reason
    # without users to count, or where there are many, it is rolled back
    assert judge(rung(50), PROVEN, Terms(CONFIG)).decision == "fail"
    many = CONFIG.model_copy(update={"sticky_users": 40_000})
    assert judge(rung(50), PROVEN, Terms(many, sticky_percent=5)).decision == "fail"


def test_what_few_users_explain_does_not_hold_a_version_back_that_passes():
    # 1.5 % of 1,000 beside 0.5 %: surely less than 4 points above stable's
    canary, stable = (
        arm + Counts(latency_bounds_ms=(10.0,), latency_counts=(1_000,), latency_total=1_000)
        for arm in (rung(15).canary, rung(15).stable)
    )
    phase = Phase(seconds=60.0, canary=canary, stable=stable, warm_canary=Counts())
    judgement = judge(phase, PROVEN, Terms(CONFIG, sticky_percent=5))
    assert judgement.decision == "pass"
    assert "but these may be few users" in judgement.reason
    assert judge(phase, PROVEN, Terms(CONFIG)).decision == "fail"


def test_what_was_proven_on_an_earlier_rung_does_not_decide_on_a_few_requests():
    """All of 20 users fail always, as far as 3 of 3 requests show; of 1,000 it is sure."""
    few = Phase(seconds=1.0, canary=Counts(3, 3), stable=Counts(57, 0))
    assert judge(few, PROVEN, Terms(CONFIG, sticky_percent=5)).decision == "continue"
    many = Phase(seconds=60.0, canary=Counts(1_000, 1_000), stable=Counts(19_000, 0))
    assert judge(many, PROVEN, Terms(CONFIG, sticky_percent=5)).decision == "fail"


def test_a_version_that_fails_a_fifth_of_the_time_is_rolled_back_by_twenty_users():
    assert judge(rung(200), PROVEN, Terms(CONFIG, sticky_percent=5)).decision == "fail"


def test_users_who_always_fail_are_seldom_drawn_so_unevenly():
    """Four of 400 users fail always, all others never; on each rung some are the canary's."""
    random, unlikely = np.random.default_rng(2), 0
    enough = math.log(bound("errors", CONFIG.alpha))
    for _ in range(4_000):
        hashes = random.uniform(0, 100, 4)
        unlikely += any(
            log_evidence_of_users(
                (hashes < percent).sum() / (4 * percent),
                (hashes >= percent).sum() / (400 - 4 * percent),
                400,
                percent / 100,
            )
            >= enough
            for percent in (1, 5, 25, 50, 95)
        )
    assert unlikely <= 20  # 0.5 %
