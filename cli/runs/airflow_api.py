"""Airflow's public REST API v2, as far as the CLI needs it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from contract.clients.http import error_of, no_answer, open_client, reason_of
from contract.errors import ConflictError, NotFoundError, ServiceUnavailableError, UserError
from contract.records.stack import Stack
from contract.tokens import bearer

ENDED_NOTE = "**ended by a person**"  # how the note of a run begins that 'slipway cancel' ended
MOST_ROWS = 100  # Airflow's own limit of a page


class AirflowClient:
    """Talks to one Airflow; logs in with `POST /auth/token`, once more when the token is old."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url, self._user, self._password = url, user, password
        self._http = open_client(url)

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Return a client for the Airflow of this machine."""
        if not stack.airflow_url:
            raise ServiceUnavailableError(
                "these services were started without Airflow; run 'slipway down' and 'slipway up', "
                "or use 'slipway run --local'"
            )
        return cls(stack.airflow_url, stack.airflow_user, airflow_password(stack))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def dag(self, dag_id: str) -> dict[str, Any]:
        """Return a DAG, or raise NotFoundError."""
        return self._get(f"/dags/{dag_id}")

    def dags(self) -> list[dict[str, Any]]:
        """Return all DAGs that Airflow has read."""
        return list(self._get("/dags", limit=MOST_ROWS)["dags"])

    def import_errors(self) -> list[str]:
        """Return a line for each DAG file that could not be read."""
        errors = self._get("/importErrors", limit=MOST_ROWS)["import_errors"]
        return [f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in errors]

    def read_again(self, file_token: str) -> None:
        """Ask the dag-processor to read a DAG file soon; it may be asked twice."""
        try:
            self._call("PUT", f"/parseDagFile/{file_token}")
        except ConflictError:
            return

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run; new ones start paused."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """Return a DAG's tasks."""
        return list(self._get(f"/dags/{dag_id}/tasks")["tasks"])

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run. `logical_date` must be sent, and is null: such runs never collide."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._call("POST", f"/dags/{dag_id}/dagRuns", json=body)

    def runs(self, dag_id: str, limit: int) -> list[dict[str, Any]]:
        """Return the latest runs, newest first."""
        path = f"/dags/{dag_id}/dagRuns"
        return list(self._get(path, limit=limit, order_by="-run_after")["dag_runs"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return self._get(f"/dags/{dag_id}/dagRuns/{run_id}")

    def end(self, dag_id: str, run_id: str, note: str) -> None:
        """End a run: its tasks are killed, those to come are skipped."""
        body = {"state": "failed", "note": note}
        self._call("PATCH", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}", json=body)

    def task_instances(self, dag_id: str, run_id: str = "~") -> list[dict[str, Any]]:
        """Return the task instances of one run; of the latest runs where none is named."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        answer = self._get(path, limit=MOST_ROWS, order_by="-start_date")
        return list(answer["task_instances"])

    def answer(self, task_instance: Mapping[str, Any], choice: str) -> None:
        """Answer a task that waits for a person with one of its options."""
        path = (
            f"/dags/{task_instance['dag_id']}/dagRuns/{quote(task_instance['dag_run_id'], safe='')}"
            f"/taskInstances/{task_instance['task_id']}/{task_instance['map_index']}/hitlDetails"
        )
        self._call("PATCH", path, json={"chosen_options": [choice]})

    def log(self, task_instance: Mapping[str, Any]) -> list[str]:
        """Return the log of a task's latest try, one message an entry."""
        path = (
            f"/dags/{task_instance['dag_id']}/dagRuns/{task_instance['dag_run_id']}/taskInstances/"
            f"{task_instance['task_id']}/logs/{task_instance['try_number']}"
        )
        content = self._get(path, full_content=True)["content"]
        return [str(line["event"] if isinstance(line, dict) else line) for line in content]

    def asset_id(self, uri: str) -> int:
        """Return the integer id of an asset, which asset events are posted with."""
        assets = self._get("/assets", limit=MOST_ROWS, uri_pattern=uri)["assets"]
        for asset in assets:
            if asset["uri"].rstrip("/") == uri.rstrip("/"):
                return int(asset["id"])
        raise NotFoundError(f"Airflow knows no asset '{uri}'; has it read the pipeline's DAG?")

    def announce(self, uri: str, extra: Mapping[str, Any]) -> None:
        """Post an asset event."""
        body = {"asset_id": self.asset_id(uri), "extra": dict(extra)}
        self._call("POST", "/assets/events", json=body)

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("GET", path, params=parameters).json()
        return answer

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            if "authorization" not in self._http.headers:
                self._log_in()
            answer = self._http.request(method, f"/api/v2{path}", **content)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                self._log_in()
                answer = self._http.request(method, f"/api/v2{path}", **content)
        except httpx.TransportError as error:
            advice = "look at it with 'slipway check', start it with 'slipway up'"
            raise no_answer(f"Airflow at {self._url}", error, advice) from error
        if answer.is_error:
            call = f"{method} {answer.request.url.path}"
            raise error_of(answer, f"Airflow: {call}: {reason_of(answer)}")
        return answer

    def _log_in(self) -> None:
        login = {"username": self._user, "password": self._password}
        answer = self._http.post("/auth/token", json=login)
        if answer.is_error:
            raise UserError(
                f"Airflow at {self._url} refused the login of '{self._user}' "
                f"(status {answer.status_code}); 'slipway down' and 'slipway up' make a new one"
            )
        self._http.headers.update(bearer(answer.json()["access_token"]))


def airflow_password(stack: Stack) -> str:
    """Return the password of the stack's Airflow user; its file is Airflow's own, a JSON object."""
    passwords = json.loads(Path(stack.airflow_password_file).read_text(encoding="utf-8"))
    return str(passwords[stack.airflow_user])
