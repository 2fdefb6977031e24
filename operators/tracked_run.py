"""The parent MLflow run of a DAG run, ended where no component can: killed, or a person said no.

A component ends the parent itself, with the run's outcome; see
`components/runs/run_overview.py`. This asks MLflow's REST API, because its library takes seconds to
import.
"""

import logging
import os
import time
from collections.abc import Mapping

from contract.addresses import TRACKING_URI
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.tracked_run import (
    MOST_TAG_CHARACTERS,
    OUTCOME_TAG,
    REASONS_TAG,
    parent_run_id,
)

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 10.0


def end_tracked_run(
    run: RunLayout,
    outcome: str,
    reason: str,
    environment: Mapping[str, str] = os.environ,
    has_failed: bool = True,
) -> None:
    """End the parent run with outcome and reason; nothing fails where MLflow is not available."""
    url, run_id = environment.get(TRACKING_URI, ""), parent_run_id(run)
    if not url.startswith("http") or not run_id:
        return
    import httpx

    from contract.clients.http import open_client

    tags = {OUTCOME_TAG: outcome, REASONS_TAG: reason[:MOST_TAG_CHARACTERS]}
    status = "FAILED" if has_failed else "FINISHED"
    ended = {"run_id": run_id, "status": status, "end_time": int(1000 * time.time())}
    calls = [("set-tag", {"run_id": run_id, "key": k, "value": v}) for k, v in tags.items()]
    try:
        with open_client(url, _ANSWER_SECONDS) as http:
            for name, body in [*calls, ("update", ended)]:
                http.post(f"/api/2.0/mlflow/runs/{name}", json=body).raise_for_status()
    except (httpx.HTTPError, SlipwayError) as error:
        log.warning("MLflow's run was not ended: %s: %s", type(error).__name__, error)
