"""What `slipway up` runs: the programs of this machine, their ports and secrets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.stack.databases import database_of
from cli.stack.stack_file import NO_TELEMETRY, stack_environment
from contract.addresses import LOOPBACK, is_loopback
from contract.errors import ConfigError
from contract.loader import state_folder
from contract.places import CODE_FOLDER, workspace
from contract.private_files import secret_file
from contract.programs import TRACKING_SERVER, program_command
from contract.records.stack import Stack
from launching.environment import (
    component_environment,
    current_runtime,
    huge_pages,
    starts_warm,
)
from launching.processes.forked_program import command_of
from launching.processes.warm_start import parent_command, socket_of
from operators.airflow_settings import (
    AirflowHome,
    airflow_environment,
    airflow_processes,
    with_project_first,
)
from serving.agent.backends.registry import backend_kind
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import Program, socket_path
from serving.tracking.password import PASSWORD_FILE

_ENVOYS = 2  # so that callers notice nothing when one is started again
AIRFLOW_START_SECONDS = 5  # ends sooner than that: it could not start


@dataclass(frozen=True)
class DataPlaneOptions:
    """How the data plane is called: the address it listens on, a token, TLS, how often."""

    listen: str = LOOPBACK
    token_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    requests_per_second: int = field(default=0, kw_only=True)  # of each caller; 0: any number

    def check(self, is_insecure: bool) -> None:
        """Refuse half of TLS, and a data plane that strangers reach without a token or TLS.

        Args:
            is_insecure: Whether the second is wanted.

        Raises:
            ConfigError: With what is missing.
        """
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError(["TLS needs both --certificate and --private-key; found only one"])
        wanted = {
            "--data-plane-token-file": self.token_file,
            "--certificate and --private-key": self.certificate,
        }
        missing = [option for option, value in wanted.items() if value is None]
        if missing and not is_insecure and not is_loopback(self.listen):
            raise ConfigError(
                [
                    f"--listen {self.listen}: others than this machine's users reach it; expected "
                    f"{' and '.join(missing)}, or --insecure"
                ]
            )

    def words(self) -> list[str]:
        """Return the options of 'slipway up' that ask for this."""
        options = {
            "--listen": self.listen,
            "--data-plane-token-file": self.token_file,
            "--certificate": self.certificate,
            "--private-key": self.private_key,
            "--requests-per-second": self.requests_per_second or None,
        }
        return [w for name, value in options.items() if value for w in (name, str(value))]

    def url(self, port: int) -> str:
        """Where a caller on this machine reaches the data plane."""
        scheme = "https" if self.certificate else "http"
        host = LOOPBACK if self.listen == "0.0.0.0" else self.listen
        return f"{scheme}://{host}:{port}"


@dataclass(frozen=True)
class Plan:
    """Everything that decides what runs."""

    root: Path
    ports: Mapping[str, int]
    has_airflow: bool
    data_plane: DataPlaneOptions

    @property
    def home(self) -> Path:
        """The state folder."""
        return state_folder()

    @property
    def supervisor_home(self) -> Path:
        """Where supervisord keeps its files."""
        return self.home / "supervisor"

    @property
    def logs(self) -> Path:
        """The one folder of all logs."""
        return self.home / "logs"

    @property
    def agent(self) -> MachineSettings:
        """The settings of the serving agent."""
        return MachineSettings(
            root=self.root,
            home=self.home,
            port=self.ports["agent"],
            token_file=self.home / "agent.token",
            tokens_file=self.home / "agent.tokens.json",
            envoy_port=self.ports["data_plane"],
            envoys=_ENVOYS,
            supervisor_socket=socket_path(self.supervisor_home),
            server_command=self._server_command,
            listen_host=self.data_plane.listen,
            data_plane_token_file=self.data_plane.token_file,
            tls_certificate=self.data_plane.certificate,
            tls_private_key=self.data_plane.private_key,
            requests_per_second=self.data_plane.requests_per_second,
            traffic_backend=current_runtime().traffic.backend,
        )

    @property
    def _server_command(self) -> tuple[str, ...]:
        """What starts a model server: a fork of the warm parent, where there is one."""
        fresh = MachineSettings.server_command
        return command_of(socket_of(self.home), fresh) if starts_warm(current_runtime()) else fresh

    @property
    def airflow(self) -> AirflowHome:
        """The Airflow of this machine."""
        return AirflowHome(self.home / "airflow", self.ports["airflow"])

    @property
    def stack(self) -> Stack:
        """The record that the other commands read."""
        airflow = self.airflow if self.has_airflow else None
        options = self.data_plane
        return Stack(
            airflow_url=airflow.url if airflow else "",
            airflow_user=airflow.user if airflow else "",
            airflow_password_file=str(airflow.password_file) if airflow else "",
            tracking_uri=f"http://{LOOPBACK}:{self.ports['mlflow']}",
            tracking_password_file=str(self.home / "mlflow.password"),
            agent_url=f"http://{LOOPBACK}:{self.agent.port}",
            agent_token_file=str(self.agent.token_file),
            data_plane_url=options.url(self.ports["data_plane"]),
            data_plane_token_file=str(options.token_file or ""),
            data_plane_certificate_file=str(options.certificate or ""),
            root=str(self.root),
        )


def make_secrets(plan: Plan) -> None:
    """Make tokens and passwords, once, readable by their owner only."""
    for path in (plan.stack.agent_token_file, plan.stack.tracking_password_file):
        secret_file(Path(path))
    if plan.has_airflow:
        plan.airflow.path.mkdir(parents=True, exist_ok=True)
        plan.airflow.password()


def task_environment(plan: Plan) -> dict[str, str]:
    """Return what Airflow's processes, and so the components below them, need to know."""
    environment = {**stack_environment(plan.stack), "SLIPWAY_WORKSPACE": str(workspace())}
    if pipelines := os.environ.get("SLIPWAY_PIPELINES"):
        environment["SLIPWAY_PIPELINES"] = pipelines
    return {**huge_pages(os.environ), **environment, **airflow_environment(plan.airflow)}


def base_programs(plan: Plan) -> list[Program]:
    """Return MLflow, the data plane's programs and the serving agent."""
    data_plane = backend_kind(plan.agent.traffic_backend).programs(plan.agent)
    return [_mlflow(plan), *data_plane, agent_program(plan.agent)]


def airflow_programs(plan: Plan) -> list[Program]:
    """Return Airflow's processes; their database must be there before they start."""
    environment = task_environment(plan)
    return [
        Program(
            name=name,
            command=tuple(command),
            log_file=plan.logs / f"{name}.log",
            environment=environment,
            start_seconds=AIRFLOW_START_SECONDS,
            # what a killed scheduler's workers are at, they may finish: it is not done twice then
            spares_busy=name == "airflow-scheduler",
        )
        for name, command in airflow_processes().items()
    ]


def background_programs(plan: Plan) -> list[Program]:
    """Return the warm parent, which makes steps start sooner and which `up` does not wait for."""
    if not starts_warm(current_runtime()):
        return []
    of_components = {**component_environment(os.environ, None), **NO_TELEMETRY}
    return [
        Program(
            name="warm-parent",
            command=tuple(parent_command(socket_of(plan.home))),
            log_file=plan.logs / "warm-parent.log",
            environment={k: v for k, v in of_components.items() if os.environ.get(k) != v},
            directory=CODE_FOLDER,
        )
    ]


def _mlflow(plan: Plan) -> Program:
    folder = plan.home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    database = database_of(plan.home, "mlflow")
    command = [*program_command(TRACKING_SERVER), "--workers", "1"]
    command += ["--host", LOOPBACK, "--port", str(plan.ports["mlflow"])]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {
        **huge_pages(os.environ),
        "PYTHONPATH": with_project_first(os.environ),
        PASSWORD_FILE: plan.stack.tracking_password_file,
        **NO_TELEMETRY,
        # its job queue is for evaluating language models: four more processes that we never use
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log_file = plan.logs / "mlflow.log"
    return Program("mlflow", tuple(command), log_file, environment, directory=folder)
