"""The note of a DAG run: outcome, reasons and links, which Airflow shows in its list of runs.

Airflow 3.3 lets no task write it, so its public REST API is asked, with the login of this machine's
Airflow. Where there is none (another auth manager, pods) there is no note; nothing fails for one.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from contract.addresses import (
    AGENT_URL,
    DATA_PLANE_URL,
    TRACKING_URI,
    rollout_page,
    served_at,
)
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.tokens import bearer
from contract.tracked_run import parent_run_id

log = logging.getLogger(__name__)

_MOST_CHARACTERS = 1000  # Airflow's own limit
_ANSWER_SECONDS = 10.0
_BASE_URL = "AIRFLOW__API__BASE_URL"
_USERS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
_PASSWORDS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"


def write_note(
    run: RunLayout,
    outcome: str,
    reasons: Iterable[str],
    version: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Write how a run ended, and why, into its note."""
    if not all(environment.get(name) for name in (_BASE_URL, _USERS, _PASSWORDS)):
        log.debug(
            "%s: no login for Airflow's REST API: the run's note is not written", run.pipeline
        )
        return
    import httpx

    from contract.clients.http import open_client

    text = note_text(run, outcome, reasons, version, environment)
    user = environment[_USERS].partition(":")[0]
    try:
        passwords = json.loads(Path(environment[_PASSWORDS]).read_text(encoding="utf-8"))
        login = {"username": user, "password": passwords[user]}
        with open_client(environment[_BASE_URL], _ANSWER_SECONDS) as http:
            granted = http.post("/auth/token", json=login).raise_for_status()
            http.patch(
                f"/api/v2/dags/{run.pipeline}/dagRuns/{quote(run.run_id, safe='')}",
                json={"note": text},
                params={"update_mask": "note"},
                headers=bearer(granted.json()["access_token"]),
            ).raise_for_status()
    except (httpx.HTTPError, SlipwayError, OSError, ValueError, KeyError) as error:
        log.warning("the run's note was not written: %s: %s", type(error).__name__, error)


def note_text(
    run: RunLayout,
    outcome: str,
    reasons: Iterable[str],
    version: int | None,
    environment: Mapping[str, str],
) -> str:
    """Return a note in Markdown: links first, for a long reason is cut."""
    links = {"MLflow": _mlflow_link(run, environment)}
    if run.step("canary").exists():
        links["rollout"] = rollout_page(environment.get(AGENT_URL, ""), run.pipeline)
    if outcome == "promoted" and version is not None:
        data_plane = environment.get(DATA_PLANE_URL, "")
        links[f"version {version} in service"] = served_at(data_plane, run.pipeline, version)
    linked = " · ".join(f"[{name}]({link})" for name, link in links.items() if link)
    head = f"**{outcome}**" + (f"  ({linked})" if linked else "")
    text = "\n\n".join([head, *reasons])
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 2] + " …"
    return text


def _mlflow_link(run: RunLayout, environment: Mapping[str, str]) -> str:
    url, run_id = environment.get(TRACKING_URI, ""), parent_run_id(run)
    return f"{url.rstrip('/')}/#/runs/{run_id}" if url.startswith("http") and run_id else ""
