"""Another user of the machine tries every file, socket and port of running services."""

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from attackers import as_nobody as as_nobody
from attackers import asked, connects
from typer.testing import CliRunner

from cli.main import app
from contract.records.stack import Stack
from serving.supervisord.supervision import Supervisor
from serving.traffic.envoy.admin import EnvoyAdmin

pytestmark = pytest.mark.integration
Attack = Callable[[Callable[[], Any]], Any]

READS = (
    *("/", "/config_dump", "/stats", "/server_info", "/memory", "/logging", "/metrics", "/healthz"),
    *("/v1/pipelines/digits/plan", "/v1/pipelines", "/v1/models/digits", "/api/v2/dags"),
    *("/metrics/envoys/envoy", "/metrics/envoys/..%2f..%2fconfig_dump"),
    *("/api/2.0/mlflow/experiments/search", "/get-artifact?path=x&run_uuid=y"),
    "/api/2.0/mlflow-artifacts/artifacts",
)
WRITES = (
    *("/quitquitquit", "/drain_listeners", "/reset_counters", "/logging?level=debug"),
    *("/v1/pipelines/digits/plan", "/v1/pipelines/digits/rollback", "/RPC2"),
    *("/api/2.0/mlflow/experiments/create", "/ajax-api/2.0/mlflow/experiments/create"),
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A state folder whose parents everybody may enter, as those of most users."""
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    yield parent / "home"
    CliRunner().invoke(app, ["down"], env={"SLIPWAY_HOME": str(parent / "home")})
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def stack(home: Path) -> Stack:
    home.mkdir()
    home.chmod(0o777)  # left over by an earlier version
    words = ["up", "--without-airflow", "--json"]
    result = CliRunner().invoke(app, words, env={"SLIPWAY_HOME": str(home)})
    assert result.exit_code == 0, result.stderr
    found = Stack.model_validate(json.loads(result.stdout))
    assert [secret for secret in secrets_of(found) if secret in result.output] == []
    return found


def secrets_of(stack: Stack) -> list[str]:
    files = (stack.agent_token_file, stack.tracking_password_file)
    return [Path(file).read_text(encoding="utf-8").strip() for file in files]


def ports_of(home: Path) -> list[int]:
    """Return the TCP ports on which the services listen."""
    pids = {state.pid for state in Supervisor(home / "supervisor").states().values()}
    below = {child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)}
    found = psutil.net_connections("tcp")
    ours = [one for one in found if one.status == "LISTEN" and one.pid in pids | below]
    return sorted({one.laddr.port for one in ours})


def test_no_file_of_the_state_folder_can_be_opened(
    stack: Stack, home: Path, as_nobody: Attack
) -> None:
    files = [str(path) for path in home.rglob("*")]
    assert len(files) > 20

    def opened() -> list[str]:
        return [path for path in (str(home), *files) if os.access(path, os.R_OK)]

    assert as_nobody(opened) == []
    assert as_nobody(lambda: os.access(home, os.X_OK)) is False


def test_no_socket_takes_a_connection(stack: Stack, home: Path, as_nobody: Attack) -> None:
    sockets = [str(path) for path in home.rglob("*") if path.is_socket()]
    taking = {Path(one).name for one in sockets if connects(one)}  # from their owner
    assert {"supervisor.sock", "envoy.sock", "envoy-2.sock"} <= taking
    admin = home / "envoy" / "envoy.sock"
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert as_nobody(lambda: [one for one in sockets if connects(one)]) == []


def test_no_command_line_tells_a_secret(stack: Stack, as_nobody: Attack) -> None:
    def shown() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended
                found.append(path.read_text(encoding="utf-8", errors="replace"))
        return found

    lines = as_nobody(shown)
    assert any("serving.tracking" in line for line in lines)
    assert [line for line in lines for secret in secrets_of(stack) if secret in line] == []


def test_no_port_tells_a_secret_or_obeys(stack: Stack, home: Path, as_nobody: Attack) -> None:
    ports = ports_of(home)
    assert len(ports) >= 3  # MLflow, the agent, the data plane
    theirs = {"name": "theirs", "artifact_location": f"file://{home}"}

    def attacked() -> list[tuple[int, str, int, str]]:
        asks: list[tuple[int, str, str, Any]] = [
            (port, "GET", path, None) for port in ports for path in READS
        ]
        asks += [(port, "POST", path, theirs) for port in ports for path in WRITES]
        return [(port, path, *asked(port, how, path, body)) for port, how, path, body in asks]

    answers = as_nobody(attacked)
    assert [found for found in answers for secret in secrets_of(stack) if secret in found[3]] == []
    read = {(port, path) for port, path, status, _ in answers if status == 200}
    open_to_all = {"/", "/healthz", "/metrics", "/metrics/envoys/envoy"}  # counts, and who is up
    assert {path for _, path in read} <= open_to_all
    again = as_nobody(lambda: [asked(port, "GET", "/")[0] for port in ports])
    assert all(again), "a service has ended"


def test_envoy_shows_its_owner_too_no_more_than_counters(stack: Stack, home: Path) -> None:
    admin = EnvoyAdmin(home / "envoy" / "envoy.sock")
    found = {}
    for method, path in (("GET", "/config_dump"), ("POST", "/quitquitquit"), ("GET", "/stats")):
        connection = admin.connection(10.0)
        connection.request(method, path)
        found[path] = connection.getresponse().status
        connection.close()
    assert found == {"/config_dump": 403, "/quitquitquit": 403, "/stats": 200}
    assert admin.is_ready()


def test_mlflow_is_open_to_whom_the_password_is_known(stack: Stack, home: Path) -> None:
    result = CliRunner().invoke(app, ["logins", "--json"], env={"SLIPWAY_HOME": str(home)})
    login = json.loads(result.stdout)["mlflow"]
    assert (login["url"], login["password"]) == (stack.tracking_uri, secrets_of(stack)[1])
    signed = (login["user"], login["password"])
    with httpx.Client(base_url=login["url"], auth=signed, trust_env=False) as http:
        create = "/api/2.0/mlflow/experiments/create"
        refused = http.post(create, json={"name": "x", "artifact_location": f"file://{home}"})
        assert refused.status_code == 400
        assert "expected none, or a 'mlflow-artifacts:' URI" in refused.json()["message"]
        assert http.post(create, json={"name": "y"}).is_success
