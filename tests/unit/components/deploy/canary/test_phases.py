from components.deploy.canary.phases import in_words, seconds_to_go
from components.deploy.judging.accounts import Phase
from components.deploy.judging.consents import Terms
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import Judgement
from contract.schema.serving import DeployConfig

RUNG = Terms(DeployConfig())
SHADOW = Terms(DeployConfig(), is_shadow=True, disagreement_limit=0.1)
CONTINUE = Judgement("continue", "")
STABLE = Counts(requests=1000)


def test_the_time_to_go_is_by_the_rate_of_what_is_missing():
    counted = Phase(seconds=10.0, canary=Counts(requests=20, compared=5), stable=STABLE)
    # errors need 118 clean requests (log 125 / log 0.99/0.95 = 117.1), 20 are there, 2 a second
    assert seconds_to_go(CONTINUE, counted, RUNG) == 49.0
    # 200 compared requests are needed, 5 are there, one in two seconds
    assert seconds_to_go(CONTINUE, counted, SHADOW) == 390.0


def test_the_time_to_go_is_at_least_the_least_time():
    counted = Phase(seconds=10.0, canary=Counts(requests=2000), stable=STABLE)
    assert seconds_to_go(Judgement("continue", "", 0, 50.0), counted, RUNG) == 50.0


def test_what_stable_has_too_little_of_takes_as_long_as_stable_needs():
    """On the last rung stable has a twentieth: 49 timed requests take it half a minute."""
    many, few = (
        Counts(requests, latency_bounds_ms=(10.0,), latency_counts=(timed,), latency_total=timed)
        for requests, timed in ((2000, 2000), (16, 1))
    )
    counted = Phase(seconds=10.0, canary=many, stable=few, warm_canary=Counts())
    assert seconds_to_go(CONTINUE, counted, RUNG) == 30.6  # 49 at 1.6 a second


def test_without_traffic_nobody_knows():
    assert seconds_to_go(CONTINUE, Phase(seconds=9.0), RUNG) is None
    assert in_words(None) == "time to go unknown"
    assert in_words(24.6) == "about 25 s to go"


def test_while_stable_itself_fails_nobody_knows():
    canary, stable = Counts(requests=500), Counts(requests=500, errors=400)
    counted = Phase(seconds=10.0, canary=canary, stable=stable)
    assert seconds_to_go(CONTINUE, counted, RUNG) is None
