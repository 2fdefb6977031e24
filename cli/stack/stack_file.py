"""The services of this machine as the other commands see them: `stack.json` and its secrets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from contract.addresses import (
    AGENT_TOKEN_FILE,
    AGENT_URL,
    AIRFLOW_URL,
    DATA_PLANE_URL,
    TRACKING_URI,
)
from contract.errors import ConfigError, ServiceUnavailableError
from contract.loader import state_folder
from contract.records.stack import Stack
from contract.tokens import read_token
from serving.tracking.password import USER

if TYPE_CHECKING:
    from components.runs.agent_client import AgentClient
    from contract.layout import PipelineLayout

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


def served_pipeline(name: str) -> "tuple[PipelineLayout, Stack]":
    """Return the artifacts of a pipeline or an imported model, and its services.

    They are those of this machine. A runtime file for Kubernetes means the cluster's; where its
    agent is reached from here, the environment says, as in the pods.

    Raises:
        NotFoundError: If there is none of this name.
        ServiceUnavailableError: If no services were started, or the agent's address is missing.
    """
    from contract.storage import local_path

    if (cluster := _services_of_cluster()) is not None:
        return _known(local_path(cluster.root), name), cluster
    return known_layout(name), require_stack()


def shown_pipeline(name: str) -> "tuple[PipelineLayout, Stack | None]":
    """Return what can be looked at of a pipeline: its artifacts, and its services where any run.

    On Kubernetes these are a cluster's, and the artifacts may be on a volume that is not mounted
    here.

    Raises:
        NotFoundError: If there is none of this name.
        ServiceUnavailableError: If the address of a cluster's agent is missing.
    """
    from contract.layout import PipelineLayout
    from contract.storage import local_path

    if (cluster := _services_of_cluster()) is None:
        return _known(run_root(), name), read_stack()
    root = local_path(cluster.root)
    return (_known(root, name) if root.is_dir() else PipelineLayout(root, name)), cluster


def known_layout(name: str) -> "PipelineLayout":
    """Return the artifacts of a pipeline, or of an imported model.

    Raises:
        NotFoundError: If there is none of this name.
    """
    return _known(artifact_root(), name)


def _known(root: Path, name: str) -> "PipelineLayout":
    from contract.layout import PipelineLayout
    from contract.pipelines import find_pipeline, pipeline_folders

    layout = PipelineLayout(root, name)
    if name in pipeline_folders() or not layout.kept_versions():
        find_pipeline(name)
    return layout


def _services_of_cluster() -> Stack | None:
    """Return how a cluster's services are reached; None where the runtime is this machine."""
    from launching.environment import current_runtime

    runtime = current_runtime()
    if runtime.kubernetes is None:
        return None
    given = {name: os.environ.get(name, "") for name in (AGENT_URL, AGENT_TOKEN_FILE)}
    missing = [name for name, value in given.items() if not value]
    if missing:
        namespace = runtime.kubernetes.cluster("serve").namespace
        raise ServiceUnavailableError(
            f"the runtime is Kubernetes, and {' and '.join(missing)} not set: expected the serving "
            f"agent's address, for example of 'kubectl -n {namespace} port-forward "
            "service/slipway-agent 8600', and a file with its token"
        )
    return Stack(
        root=runtime.root,
        agent_url=given[AGENT_URL],
        agent_token_file=given[AGENT_TOKEN_FILE],
        tracking_uri=os.environ.get(TRACKING_URI, ""),
    )


def artifact_root() -> Path:
    """Return the artifact root: the stack's, or the local runtime's without a stack."""
    from contract.storage import local_path
    from launching import environment

    if (stack := read_stack()) is not None:
        return local_path(stack.root)
    return environment.artifact_root(environment.current_runtime())


def run_root() -> Path:
    """Return where local runs work: the artifact root, or the scratch folder of an object store."""
    from launching import environment

    if read_stack() is not None:
        return artifact_root()
    return environment.run_root(environment.current_runtime())


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
        environment[AGENT_URL] = stack.agent_url
        environment[AGENT_TOKEN_FILE] = stack.agent_token_file
        environment[DATA_PLANE_URL] = stack.data_plane_url
        environment[AIRFLOW_URL] = stack.airflow_url
    return environment


def tracking_environment(stack: Stack) -> dict[str, str]:
    """Return the variables by which MLflow's client finds the server, and is let in.

    Those of a cluster's MLflow are in the environment already.
    """
    if not stack.tracking_password_file and os.environ.get(TRACKING_URI) == stack.tracking_uri:
        return {TRACKING_URI: stack.tracking_uri}
    user, password = tracking_login(stack)
    return {
        TRACKING_URI: stack.tracking_uri,
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
