"""Commands for the services of this machine: up, down, logins."""

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.extras import require
from cli.options import CertificateOption, JsonOption, PrivateKeyOption
from cli.output import data, notes, print_json, say
from contract.errors import ConfigError, UserError
from contract.interrupts import terminated_like_interrupted

if TYPE_CHECKING:
    from cli.stack.stack import DataPlaneOptions, Plan
    from contract.records.stack import Stack


_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 600.0


def up(
    is_without_airflow: Annotated[
        bool, typer.Option("--without-airflow", help="Start only MLflow and serving.")
    ] = False,
    port: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE=PORT",
            help="airflow, mlflow, agent or data_plane; default: free ports.",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address on which the REST data plane listens.")
    ] = "127.0.0.1",
    data_plane_token_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Callers must send this bearer token."),
    ] = None,
    certificate: CertificateOption = None,
    private_key: PrivateKeyOption = None,
    requests_per_second: Annotated[
        int,
        typer.Option(
            min=0,
            help="Limit for each token, or for each address without a token; 0: no limit. Each of "
            "the two Envoys counts by itself.",
        ),
    ] = 0,
    is_insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Let --listen open other addresses without a token and TLS."
        ),
    ] = False,
    restored: Annotated[
        list[str] | None,
        typer.Option(
            "--restore",
            metavar="mlflow|airflow",
            help="First restore the last backup of this service's database.",
        ),
    ] = None,
    is_installing: Annotated[
        bool,
        typer.Option(
            "--install", help="Write a systemd unit that runs this command; start nothing."
        ),
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Start Airflow, MLflow and the serving agent with Envoy, and keep them running.

    A second call changes only what differs. 'slipway down' stops everything.

    [bold]Examples[/]

    [cyan]$ slipway up[/]

    [cyan]$ slipway up --without-airflow --port data_plane=8501[/]

    [cyan]$ slipway up --listen 0.0.0.0 --data-plane-token-file token \\
        --certificate tls.crt --private-key tls.key[/]
    """
    require("components", "serving", *(() if is_without_airflow else ("airflow",)))
    from cli.stack.stack import DataPlaneOptions

    options = DataPlaneOptions(
        listen,
        token_file=data_plane_token_file and data_plane_token_file.resolve(),
        certificate=certificate and certificate.resolve(),
        private_key=private_key and private_key.resolve(),
        requests_per_second=requests_per_second,
    )
    options.check(is_insecure)
    if is_installing:
        switches = {"--without-airflow": is_without_airflow, "--insecure": is_insecure}
        chosen = [name for name, is_given in switches.items() if is_given]
        ports = [word for one in port or [] for word in ("--port", one)]
        install_unit([*chosen, *ports, *options.words()], restored or [])
        return
    with only_one("slipway up"):
        restore_databases(restored or [])
        plan = plan_stack(port or [], not is_without_airflow, options)
        start_stack(plan)
    if is_json:
        print_json(plan.stack.model_dump(mode="json"))
    else:
        show_stack(plan.stack)


def down() -> None:
    """Stop everything that 'slipway up' started, including model servers. Data is kept.

    [bold]Examples[/]

    [cyan]$ slipway down[/]
    """
    from cli.stack.launch import stop
    from contract.loader import state_folder

    with only_one("slipway down"), notes.status("Stopping the services"):
        stop(state_folder() / "supervisor")
    say("Everything is stopped.")


def logins(
    is_export: Annotated[
        bool, typer.Option("--export", help="Print shell commands that let MLflow's client in.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Show users and passwords of this machine's services.

    They are made by the first 'slipway up', and kept in files of the state folder that only their
    owner may read.

    [bold]Examples[/]

    [cyan]$ slipway logins[/]

    [cyan]$ eval "$(slipway logins --export)"[/]
    """
    from cli.runs.airflow_api import airflow_password
    from cli.stack.stack_file import require_stack, tracking_environment, tracking_login

    stack = require_stack()
    if is_export:
        for name, value in tracking_environment(stack).items():
            data.print(f"export {name}={shlex.quote(value)}")
        return
    found = {"mlflow": (stack.tracking_uri, *tracking_login(stack))}
    if stack.airflow_url:
        airflow = (stack.airflow_url, stack.airflow_user, airflow_password(stack))
        found = {"airflow": airflow, **found}
    if is_json:
        keys = ("url", "user", "password")
        print_json({name: dict(zip(keys, login, strict=True)) for name, login in found.items()})
        return
    for service, (url, user, password) in found.items():
        say(f"{service:<8} {url}   {escape(user)}   {escape(password)}")


@contextmanager
def only_one(command: str) -> Iterator[None]:
    """Hold the lock of all commands that start or stop services; wait for another, and name it.

    Raises:
        ConflictError: If the other holds it for longer than any start takes.
    """
    from contract.errors import ConflictError
    from contract.loader import state_folder
    from contract.private_files import private_folder
    from contract.storage import sole_lock

    path = private_folder(state_folder()) / "services.lock"
    deadline, has_said = time.monotonic() + _LONGEST_WAIT_SECONDS, False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(sole_lock(path, f"'{command}'", "wait until it has ended"))
                break
            except ConflictError as conflict:
                if time.monotonic() > deadline:
                    raise
                if not has_said:
                    say(f"Waiting: {escape(str(conflict))}")
                has_said = True
                time.sleep(_WAIT_SECONDS)
        yield


def install_unit(options: list[str], restored: list[str]) -> None:
    """Write the unit that runs 'slipway up' with options, and print the commands that start it.

    Raises:
        UserError: If databases are to be restored: the unit would restore them at every start.
    """
    from cli.stack.systemd import UNIT, install
    from contract.loader import state_folder

    if restored:
        raise UserError("--restore with --install: restore once, without --install")
    path = install(options, state_folder())
    say(f"Wrote {escape(str(path))}")
    say("Start it: slipway down && systemctl --user daemon-reload")
    say(f"          systemctl --user enable --now {UNIT}")
    say("It starts with the machine after: loginctl enable-linger")


def restore_databases(names: list[str]) -> None:
    """Restore the last backups of these services' databases.

    Raises:
        UserError: If the services run, a name is unknown, or there is no backup.
    """
    from cli.stack.databases import restore
    from contract.loader import state_folder
    from serving.supervisord.supervision import Supervisor

    home = state_folder()
    if not names:
        return
    states = Supervisor(home / "supervisor")
    if states.is_running() and any(
        state.pid and name.startswith(tuple(names)) for name, state in states.states().items()
    ):
        raise UserError(f"--restore {', '.join(names)}: it runs; call 'slipway down' first")
    for name in names:
        say(f"{name}: {escape(restore(home, name))}")


def plan_stack(ports: list[str], has_airflow: bool, options: "DataPlaneOptions") -> "Plan":
    """Decide what will run, and on which ports; those of a running stack stay."""
    from cli.stack.ports import choose_ports, kept_ports, parse_ports
    from cli.stack.stack import Plan
    from cli.stack.stack_file import artifact_root
    from contract.loader import state_folder
    from contract.private_files import private_folder
    from serving.supervisord.supervision import Supervisor

    home = private_folder(state_folder())
    (home / "logs").mkdir(exist_ok=True)
    path = home / "ports.json"
    wanted = parse_ports(ports)
    supervisor = Supervisor(home / "supervisor")
    if path.exists() and supervisor.is_running():
        chosen = kept_ports(path)
        if moved := [f"{s}={p}" for s, p in wanted.items() if chosen.get(s) != p]:
            raise ConfigError(
                [
                    f"--port {', '.join(moved)}: the services run on other ports; call 'slipway "
                    "down' first"
                ]
            )
    else:
        # of a supervisord that was killed: they hold the ports, and what serves on keeps its own
        own = supervisor.end_orphans(spared=supervisor.adoptable())
        chosen = choose_ports(path, wanted, own)
    return Plan(artifact_root(), chosen, has_airflow, options)


def start_stack(plan: "Plan") -> None:
    """Start the services with progress.

    After a failure or an interrupt nothing is left running, except what ran before, and serving
    where only something else has failed.
    """
    from cli.board import Board
    from cli.stack.launch import PartlyStartedError, services_of, start, stop
    from serving.supervisord.supervision import Supervisor

    was_running = Supervisor(plan.supervisor_home).is_running()
    with (
        terminated_like_interrupted(),
        Board("Starting the services", services_of(plan)) as board,
    ):
        try:
            start(plan, board)
        except PartlyStartedError:
            raise
        except BaseException:
            if not was_running:
                stop(plan.supervisor_home)
            raise


def show_stack(stack: "Stack") -> None:
    """Print the addresses, and which command shows the passwords."""
    if stack.airflow_url:
        say(f"Airflow     {stack.airflow_url}   (login: 'slipway logins')")
    say(f"MLflow      {stack.tracking_uri}   (login: 'slipway logins')")
    say(f"Data plane  {stack.data_plane_url}/v1/models/NAME:predict")
    say(f"Agent       {stack.agent_url}   (token: {escape(stack.agent_token_file)})")
    say(f"Artifacts   {escape(stack.root)}")
