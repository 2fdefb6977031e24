"""The trial of a DAG run that has failed for good: the serving agent withdraws it at once.

Without this it would end with its lease, some seconds later. The agent's control API is called
directly, because operators may not import components, which have its client.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from contract.addresses import AGENT_TOKEN_FILE, AGENT_URL
from contract.errors import SlipwayError
from contract.layout import RunLayout

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 10.0
_NOTHING_TO_WITHDRAW = frozenset({404, 409})


def withdraw_trial(run: RunLayout, reason: str, environment: Mapping[str, str] = os.environ) -> str:
    """Give stable the traffic of the run's trial; return a sentence on what was done, or `""`.

    An agent that cannot be reached is not an error: the trial then ends with its lease.
    """
    if not all(environment.get(name) for name in (AGENT_URL, AGENT_TOKEN_FILE)):
        return ""
    import httpx

    from contract.clients.http import open_client
    from contract.records.traffic import TrafficPlan
    from contract.tokens import read_token

    path = f"/v1/pipelines/{run.pipeline}/trial"
    order = {"author": run.author, "by": "Airflow", "reason": reason}
    try:
        token = read_token(Path(environment[AGENT_TOKEN_FILE]))
        with open_client(environment[AGENT_URL], _ANSWER_SECONDS, token) as http:
            answer = http.delete(path, params=order)
        if answer.status_code in _NOTHING_TO_WITHDRAW:
            return ""
        plan = TrafficPlan.model_validate(answer.raise_for_status().json())
    except (httpx.HTTPError, SlipwayError, ValueError) as error:
        log.warning("the run's trial was not withdrawn: %s: %s", type(error).__name__, error)
        return ""
    return plan.withdrawn.in_words if plan.withdrawn else ""
