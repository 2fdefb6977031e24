"""The services of this machine as the other commands see them: `stack.json` and its secrets."""

from pathlib import Path
from typing import TYPE_CHECKING

from contract.addresses import DATA_PLANE_URL
from contract.errors import ConfigError, ServiceUnavailableError
from contract.loader import state_folder
from contract.records.stack import Stack
from contract.tokens import read_token
from serving.tracking.password import USER

if TYPE_CHECKING:
    from components.runs.agent_client import AgentClient

ANSWER_SECONDS = 5.0
AGENT_PATIENCE_SECONDS = 10.0

# MLflow tells its makers what its users do, unless one of these is set when it is imported.
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def stack_path() -> Path:
    """Return where `slipway up` writes what it started."""
    return state_folder() / "stack.json"


def read_stack() -> Stack | None:
    """Return the services of this machine, or None where none were started."""
    return Stack.read(stack_path()) if stack_path().exists() else None


def require_stack() -> Stack:
    """Return the services of this machine.

    Raises:
        ServiceUnavailableError: If none were started.
    """
    if (stack := read_stack()) is None:
        raise ServiceUnavailableError(
            f"no services are running ({stack_path()} does not exist); start them with 'slipway up'"
        )
    return stack


def artifact_root() -> Path:
    """Return the artifact root: the stack's, or the local runtime's without a stack."""
    from contract.storage import local_path
    from launching import environment

    if (stack := read_stack()) is not None:
        return local_path(stack.root)
    return environment.artifact_root(environment.current_runtime())


def open_agent(stack: Stack, patience_seconds: float = AGENT_PATIENCE_SECONDS) -> "AgentClient":
    """Return a client of the serving agent, which waits so long for one that does not answer."""
    from components.runs.agent_client import AgentClient

    token = read_token(Path(stack.agent_token_file))
    return AgentClient(stack.agent_url, token, patience_seconds)


def stack_environment(stack: Stack | None) -> dict[str, str]:
    """Return the variables by which component processes find the services."""
    environment = {
        "SLIPWAY_HOME": str(state_folder()),
        **NO_TELEMETRY,
    }
    if stack is not None:
        environment |= tracking_environment(stack)
        environment["SLIPWAY_AGENT_URL"] = stack.agent_url
        environment["SLIPWAY_AGENT_TOKEN_FILE"] = stack.agent_token_file
        environment[DATA_PLANE_URL] = stack.data_plane_url
        environment["SLIPWAY_AIRFLOW_URL"] = stack.airflow_url
    return environment


def tracking_environment(stack: Stack) -> dict[str, str]:
    """Return the variables by which MLflow's client finds the server, and is let in."""
    user, password = tracking_login(stack)
    return {
        "MLFLOW_TRACKING_URI": stack.tracking_uri,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }


def tracking_login(stack: Stack) -> tuple[str, str]:
    """Return user and password of MLflow."""
    path = stack.tracking_password_file
    return USER, read_token(Path(path)) if path else ""


def service_problems(stack: Stack) -> list[str]:
    """Ask each service for its health and return a line for each that does not answer well."""
    import httpx

    from contract.clients.http import open_client, said

    addresses = {
        "Airflow": stack.airflow_url and f"{stack.airflow_url}/api/v2/monitor/health",
        "MLflow": stack.tracking_uri and f"{stack.tracking_uri}/health",
        "serving agent": stack.agent_url and f"{stack.agent_url}/healthz",
    }
    problems = []
    for name, address in addresses.items():
        if not address:
            continue
        try:
            with open_client(address, ANSWER_SECONDS) as http:
                http.get(address).raise_for_status()
        except (httpx.HTTPError, ConfigError) as error:
            problems.append(f"{name} at {address}: {said(error)}")
    return problems
