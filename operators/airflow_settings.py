"""The Airflow of one machine: its settings as environment variables, and its processes.

`slipway up` and the end-to-end tests start the same Airflow from here. Whoever runs an Airflow of
their own needs none of this: there it is enough that the DAG folder is `dags/`.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.places import CODE_FOLDER
from contract.private_files import secret_file
from contract.storage import create_exclusively

_HOST = "127.0.0.1"
_USER = "admin"

# Seconds. Airflow's own defaults let a crashed scheduler's tasks lie for up to five minutes.
_HEARTBEAT_SECONDS = 2
_HEARTBEAT_TIMEOUT_SECONDS = 60
_LOST_TASKS_SECONDS = 15
# A scheduler without a heartbeat for so long is lost, and its tasks are started again. On a machine
# that is far too busy one that runs was silent for 20 s.
_SCHEDULER_LOST_SECONDS = 60
_PARSE_INTERVAL_SECONDS = 15
JWT_CHARACTERS = 86  # 512 bits: Airflow signs with HS512, whose key is to be as long as its hash
_API_TIMEOUT_SECONDS = 30  # Airflow's five are too few for a task that starts on a busy machine


@dataclass(frozen=True)
class AirflowHome:
    """One Airflow on this machine: its folder, its port and how many tasks run at once."""

    path: Path
    port: int
    parallelism: int = 8

    @property
    def url(self) -> str:
        """The address of the UI and the REST API."""
        return f"http://{_HOST}:{self.port}"

    @property
    def user(self) -> str:
        return _USER

    @property
    def password_file(self) -> Path:
        """A JSON object, user to password, as Airflow's simple auth manager reads it."""
        return self.path / "passwords.json"

    def password(self) -> str:
        """Return the user's password, made up on first use and kept in `password_file`."""
        content = json.dumps({_USER: secrets.token_urlsafe(12)})
        if create_exclusively(self.password_file, content):
            self.password_file.chmod(0o600)
        return str(json.loads(self.password_file.read_text(encoding="utf-8"))[_USER])


def airflow_environment(home: AirflowHome) -> dict[str, str]:
    """Return the environment variables that every Airflow process of this machine needs.

    They come on top of the caller's own environment. SQLite and LocalExecutor: one machine, no
    server to install; both are Airflow's own defaults, and `WaitingExecutor` is a LocalExecutor.
    """
    signing_key = secret_file(home.path / "jwt.secret", JWT_CHARACTERS)
    settings = {
        "CORE__DAGS_FOLDER": CODE_FOLDER / "dags",
        "CORE__EXECUTOR": "operators.executor.WaitingExecutor",
        "CORE__PARALLELISM": home.parallelism,
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__EXECUTION_API_SERVER_URL": f"{home.url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{home.user}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home.password_file,
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.path}/airflow.db",
        "LOGGING__BASE_LOG_FOLDER": home.path / "logs",
        "API__HOST": _HOST,
        "API__PORT": home.port,
        "API__BASE_URL": home.url,
        "API__WORKERS": 1,
        "API_AUTH__JWT_SECRET": signing_key.read_text(encoding="utf-8"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": _PARSE_INTERVAL_SECONDS,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": _PARSE_INTERVAL_SECONDS,
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": _PARSE_INTERVAL_SECONDS,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": _SCHEDULER_LOST_SECONDS,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0,  # the executor waits
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": _LOST_TASKS_SECONDS,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": _HEARTBEAT_TIMEOUT_SECONDS,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": _HEARTBEAT_SECONDS,
        "WORKERS__EXECUTION_API_TIMEOUT": _API_TIMEOUT_SECONDS,
    }
    environment = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
    return environment | {
        "AIRFLOW_HOME": str(home.path),
        "PYTHONPATH": with_project_first(os.environ),
        "PYTHONUNBUFFERED": "1",
    }


def airflow_processes(python: str = sys.executable) -> dict[str, list[str]]:
    """Return the command line of each long-running process, by name, in starting order.

    `airflow db migrate` (see `migrate_command`) must have ended before. Logs are read from disk,
    so no process serves them on a separate port.
    """
    airflow, warm = [python, "-m", "airflow"], [python, "-m", "operators.warm_airflow"]
    return {
        "airflow-api": [*airflow, "api-server"],
        "airflow-dag-processor": [*warm, "dag-processor"],
        "airflow-scheduler": [*warm, "scheduler", "--skip-serve-logs"],
        "airflow-triggerer": [*airflow, "triggerer", "--skip-serve-logs"],
    }


def migrate_command(python: str = sys.executable) -> list[str]:
    """Return the command that creates the database or brings it up to date."""
    return [python, "-m", "airflow", "db", "migrate"]


def with_project_first(environment: Mapping[str, str]) -> str:
    """Return a PYTHONPATH that begins with the project."""
    others = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
    return os.pathsep.join([str(CODE_FOLDER), *(p for p in others if p != str(CODE_FOLDER))])
