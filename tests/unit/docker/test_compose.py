"""docker/compose.yaml, read as Compose would: everything that it names is there."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from cli.stack.stack_file import stack_environment
from contract.records.stack import Stack
from operators.airflow_settings import airflow_processes, migrate_command
from serving.agent.one_machine import __name__ as serving_module
from serving.agent.settings import MachineSettings, parse
from serving.supervisord.configuration import socket_path

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text().replace("${SLIPWAY_PASSWORD:?}", "secret")))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"])


@pytest.fixture(scope="module")
def settings(services: dict[str, Any]) -> MachineSettings:
    """The settings of the serving agent."""
    python, option, module, *arguments = services["serving"]["command"]
    assert (python, option, module) == ("python", "-m", serving_module)
    found = parse(["machine", *arguments])
    assert isinstance(found, MachineSettings)
    return found


def test_all_of_airflows_processes_run_and_the_database_first(services: dict[str, Any]) -> None:
    wanted = {name: command[3] for name, command in airflow_processes().items()}
    given = {n: service["command"] for n, service in services.items() if n in wanted}
    assert {name: command[1] for name, command in given.items()} == wanted
    assert services["airflow-migrate"]["command"][1:] == migrate_command()[3:]
    for name in wanted:
        condition = services[name]["depends_on"]["airflow-migrate"]["condition"]
        assert condition == "service_completed_successfully"


def test_mlflow_and_the_agent_take_their_options(
    services: dict[str, Any], settings: MachineSettings
) -> None:
    program, options = services["mlflow"]["command"][:3], services["mlflow"]["command"][3:]
    assert program == ["python", "-m", "serving.tracking"]
    tried = (ROOT / "docker" / "kubernetes" / "tracking" / "mlflow.yaml").read_text()
    known = re.findall(r"--[a-z-]+", tried)
    assert {option.split("=")[0] for option in options} <= set(known)
    assert settings.supervisor_socket == socket_path(settings.supervisor_home)
    assert settings.host == settings.listen_host == "0.0.0.0"


def test_components_find_everything_that_slipway_up_would_tell_them(
    services: dict[str, Any], settings: MachineSettings, tmp_path: Path
) -> None:
    environment = services["airflow-scheduler"]["environment"]  # its workers start the components
    password = tmp_path / "password"
    password.write_text("secret", encoding="utf-8")
    texts = dict.fromkeys(Stack.model_fields.keys() - {"record_version"}, "x")
    everything = Stack(**{**texts, "tracking_password_file": str(password)})
    assert stack_environment(everything).keys() - {"DO_NOT_TRACK"} <= environment.keys()
    assert environment["SLIPWAY_AGENT_URL"] == f"http://serving:{settings.port}"
    assert environment["SLIPWAY_AGENT_TOKEN_FILE"] == str(settings.token_file)
    assert settings.root == Path(environment["SLIPWAY_HOME"]) / "artifacts"
    urls = [str(v) for k, v in environment.items() if k.endswith(("_URL", "_URI"))]
    assert {urlsplit(url).hostname for url in urls} <= services.keys()


def told(service: dict[str, Any], name: str, folder: Path) -> str:
    """Return what Airflow gets by a command, which it runs without a shell, from the secret."""
    (folder / "secret").write_text("hush", encoding="utf-8")
    command = service["environment"][name].replace("$$", "$")
    words = shlex.split(command.replace("/run/secrets/tracking", str(folder / "secret")))
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_password_is_in_a_file_and_serving_has_none(
    services: dict[str, Any], tmp_path: Path
) -> None:
    key = told(services["airflow-api"], "AIRFLOW__API_AUTH__JWT_SECRET_CMD", tmp_path)
    assert key == "hush"
    for name, service in services.items():
        clear = {k for k, value in service["environment"].items() if value == "secret"}
        without = name in ("postgres", "serving")
        # MLflow's client takes it from a variable only
        assert clear == (set() if without else {"MLFLOW_TRACKING_PASSWORD"}), name
        assert service["secrets"] == ([] if name == "serving" else ["tracking"]), name


def test_every_database_is_one_of_postgresqls(
    compose: dict[str, Any], services: dict[str, Any], tmp_path: Path
) -> None:
    airflow = told(services["airflow-api"], "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", tmp_path)
    option = next(o for o in services["mlflow"]["command"] if "store-uri" in o)
    made = services["postgres"]["environment"]["POSTGRES_DB"]
    (config,) = services["postgres"]["configs"]
    more = re.findall(r"CREATE DATABASE (\w+);", compose["configs"][config["source"]]["content"])
    uris = [urlsplit(airflow), urlsplit(option.partition("=")[2])]
    assert [uri.scheme for uri in uris] == ["postgresql+psycopg2"] * 2
    assert [uri.path for uri in uris] == [f"/{name}" for name in (made, *more)]
    assert "sqlite" not in COMPOSE.read_text()


def test_what_is_written_lies_on_a_volume(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if not service["image"].startswith("postgres"):
            assert service["read_only"], name
            assert service["volumes"] == ["state:/state"], name
