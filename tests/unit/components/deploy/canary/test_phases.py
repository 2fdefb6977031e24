from components.deploy.canary.phases import time_to_go
from components.deploy.judging.accounts import Phase
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import Judgement, Terms
from contract.schema.serving import DeployConfig

RUNG = Terms(DeployConfig())
SHADOW = Terms(DeployConfig(), is_shadow=True, disagreement_limit=0.1)


def test_the_time_to_go_is_by_the_rate_of_what_is_missing():
    counted = Phase(seconds=10.0, canary=Counts(requests=20, compared=5))
    missing = Judgement("continue", "", missing=50)
    assert time_to_go(missing, counted, RUNG) == "about 25 s to go"
    assert time_to_go(missing, counted, SHADOW) == "about 100 s to go"


def test_the_time_to_go_is_at_least_the_least_time():
    counted = Phase(seconds=10.0, canary=Counts(requests=20))
    assert time_to_go(Judgement("continue", "", 2, 50.0), counted, RUNG) == "about 50 s to go"


def test_without_traffic_nobody_knows():
    assert time_to_go(Judgement("continue", "", 118), Phase(seconds=9.0), RUNG) == "no traffic yet"
