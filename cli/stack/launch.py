"""Start the services, wait until each is healthy, and stop all of them reliably."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx

from cli.board import RUNNING, Board
from cli.stack.databases import back_up, damage
from cli.stack.logs import tail
from cli.stack.stack import (
    Plan,
    airflow_programs,
    background_programs,
    base_programs,
    make_secrets,
    task_environment,
)
from cli.stack.stack_file import stack_path, tracking_login
from contract.addresses import LOOPBACK
from contract.clients.http import Client, open_client
from contract.errors import ServiceUnavailableError
from contract.interrupts import started
from contract.places import CODE_FOLDER
from operators.airflow_settings import airflow_processes, migrate_command
from serving.supervisord.configuration import Program, write_configuration
from serving.supervisord.supervision import ProgramState, Supervisor

HEALTHY_SECONDS = 300.0  # on a machine with ten times the work it can do, Airflow needs over 180
POLL_SECONDS = 0.5
PROBE_SECONDS = 5.0
DATABASE = "airflow-database"
GIVEN_UP = frozenset({"FATAL", "EXITED"})
STOPPED = frozenset({*GIVEN_UP, "STOPPED"})
MAX_STARTS = (
    2  # supervisord restarts what ends; after this many starts the wait ends with the reason
)

_NOT_SERVING = ("mlflow", "airflow")  # how the names of programs begin that serving can do without

Probe = Callable[[Client], bool]


class PartlyStartedError(ServiceUnavailableError):
    """Serving runs, and something else does not; what runs is left running."""


def start(plan: Plan, board: Board) -> None:
    """Start everything in `plan`, show it on `board` and return when all of it is healthy.

    Airflow's database is brought up to date while the other services start. Serving waits for
    neither MLflow nor Airflow: a damaged database of theirs does not stop the models.

    Raises:
        ServiceUnavailableError: If serving does not start; with the last lines of its log.
        PartlyStartedError: If serving has started, and MLflow or Airflow has not.
    """
    make_secrets(plan)
    supervisor = Supervisor(plan.supervisor_home)
    damaged = {name: words for name in databases_of(plan) if (words := damage(plan.home, name))}
    base = [program for program in base_programs(plan) if program.name not in damaged]
    has_airflow = plan.has_airflow and "airflow" not in damaged
    airflow = airflow_programs(plan) if has_airflow else []
    background = background_programs(plan)
    # A first start is in three parts: Airflow needs its database, and nobody waits for a
    # background program, which would only slow the others. What runs already stays.
    is_first = not supervisor.is_running()
    _supervise(plan, supervisor, base if is_first else [*base, *airflow, *background])
    awaited = _Awaited(plan, supervisor, board)
    awaited.note(damaged)
    awaited.expect(base)
    with _migrating(plan, board) if has_airflow else nullcontext() as migration:
        while migration is not None or awaited.probes:
            if migration is not None and migration.poll() is not None:
                if trouble := _end_migration(plan, board, migration.returncode):
                    awaited.note({DATABASE: trouble})
                    airflow = []
                if is_first:
                    _supervise(plan, supervisor, [*base, *airflow])
                awaited.expect(airflow)
                migration = None
            awaited.look()
            time.sleep(POLL_SECONDS)
    _supervise(plan, supervisor, [*base, *airflow, *background])
    _end(plan, supervisor, awaited.troubles)


def _end(plan: Plan, supervisor: Supervisor, troubles: Mapping[str, str]) -> None:
    """Record what runs, back up the sound databases, and report what does not run."""
    plan.stack.write(stack_path())
    for name in troubles:
        supervisor.stop_program(name)  # or it would be restarted permanently
    for name in databases_of(plan):
        if not any(trouble.startswith(name) for trouble in troubles):
            back_up(plan.home, name)
    if troubles:
        raise PartlyStartedError("\n".join([*troubles.values(), "serving runs"]))


def stop(supervisor_home: Path) -> None:
    """Stop every program and everything they started before returning."""
    supervisor = Supervisor(supervisor_home)
    if supervisor.is_running():
        # All at once, the agent too: it would start servers again. supervisord itself stops
        # programs one after the other.
        for name in supervisor.states():
            supervisor.stop_program(name)
    supervisor.stop()
    # Once more, now that nobody answers: ends what outlived its parent, such as a component
    # process below an Airflow worker.
    supervisor.stop()
    stack_path().unlink(missing_ok=True)


def databases_of(plan: Plan) -> list[str]:
    """Return the services of the plan that have a database."""
    return ["mlflow", *(["airflow"] if plan.has_airflow else [])]


def services_of(plan: Plan) -> list[list[str]]:
    """Return the lines of the board: what starts side by side together."""
    base = [program.name for program in base_programs(plan)]
    if not plan.has_airflow:
        return [base]
    return [[*base, DATABASE], list(airflow_processes())]


def _supervise(plan: Plan, supervisor: Supervisor, programs: Sequence[Program]) -> None:
    write_configuration(plan.supervisor_home, programs)
    supervisor.start()
    states = supervisor.states()
    for program in programs:  # one that was given up is tried again
        if program.name in states and states[program.name].state in STOPPED:
            supervisor.start_program(program.name)


@contextmanager
def _migrating(plan: Plan, board: Board) -> "Iterator[subprocess.Popen[bytes]]":
    board.update(DATABASE, RUNNING)
    with (
        _migration_log(plan).open("ab") as file,
        started(
            migrate_command(),
            env={**os.environ, **task_environment(plan)},
            cwd=CODE_FOLDER,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process


def _end_migration(plan: Plan, board: Board, exit_code: int) -> str:
    """Show how the migration has ended; return its trouble, empty if there is none."""
    if exit_code != 0:
        board.update(DATABASE, "failed", note=f"exit code {exit_code}")
        return _trouble(DATABASE, f"exit code {exit_code}", _migration_log(plan))
    board.update(DATABASE, "done")
    return ""


def _migration_log(plan: Plan) -> Path:
    return plan.logs / f"{DATABASE}.log"


class _Awaited:
    """The programs that are not healthy yet, and why others that serving does not need are not."""

    def __init__(self, plan: Plan, supervisor: Supervisor, board: Board) -> None:
        self.probes: dict[str, Probe] = {}
        self.troubles: dict[str, str] = {}
        self._plan, self._supervisor, self._board = plan, supervisor, board
        self._deadline = 0.0
        self._processes: dict[str, set[int]] = {}

    def expect(self, programs: Iterable[Program]) -> None:
        """Wait for these, too; the time for all begins again."""
        self._deadline = time.monotonic() + HEALTHY_SECONDS
        probes = _probes(self._plan)
        for program in programs:
            self.probes[program.name] = probes.get(program.name) or _asking(program)
            self._board.update(program.name, RUNNING)

    def note(self, troubles: Mapping[str, str]) -> None:
        """Record what does not run, and stop waiting for it."""
        for name, words in troubles.items():
            self.troubles[name] = words
            self.probes.pop(name, None)
            if name in self._board.rows:
                self._board.update(name, "failed")

    def look(self) -> None:
        """Show which programs have become healthy since the last look.

        Raises:
            ServiceUnavailableError: If one that serving needs cannot; with the end of its log.
        """
        with open_client(f"http://{LOOPBACK}", PROBE_SECONDS) as client:
            healthy = [name for name, probe in self.probes.items() if _holds(probe, client)]
        for name in healthy:
            self._board.update(name, "done", note="healthy")
            del self.probes[name]
        states = self._supervisor.states()
        for name in list(self.probes):
            if (trouble := self._trouble(name, states.get(name))) is not None:
                words = _trouble(name, trouble, self._plan.logs / f"{name}.log")
                self.note({name: words})
                if not name.startswith(_NOT_SERVING):
                    raise ServiceUnavailableError(words)

    def _trouble(self, name: str, state: ProgramState | None) -> str | None:
        if state is None or state.state in GIVEN_UP:
            return "it ended"
        processes = self._processes.setdefault(name, set())
        processes |= {state.pid} - {0}
        if len(processes) > MAX_STARTS:
            return f"it ended {MAX_STARTS} times"
        if time.monotonic() > self._deadline:
            return f"not healthy after {HEALTHY_SECONDS:.0f} s"
        return None


def _probes(plan: Plan) -> dict[str, Probe]:
    """Return how to tell that each service is healthy, by program name."""
    stack = plan.stack
    probes = {
        # its first use of the database takes seconds: let that be over before the first step
        "mlflow": lambda c: (
            c.post(
                f"{stack.tracking_uri}/api/2.0/mlflow/experiments/search",
                json={"max_results": 1},
                auth=tracking_login(stack),
            ).is_success
        ),
        "agent": lambda c: c.get(f"{stack.agent_url}/healthz").is_success,
    }
    if plan.has_airflow:
        health = f"{stack.airflow_url}/api/v2/monitor/health"
        # what tasks talk to is made on its first request, in seconds: let that be over, too
        probes["airflow-api"] = lambda c: c.get(f"{stack.airflow_url}/execution/health").is_success
        parts = {
            "airflow-scheduler": "scheduler",
            "airflow-dag-processor": "dag_processor",
            "airflow-triggerer": "triggerer",
        }
        for name, part in parts.items():
            probes[name] = _airflow_probe(health, part)
    return probes


def _asking(program: Program) -> Probe:
    """Return how to tell that a traffic backend's program is healthy, as it says itself."""
    return lambda _: program.is_ready is None or program.is_ready()


def _airflow_probe(health: str, part: str) -> Probe:
    return lambda client: _status(client.get(health).json(), part) == "healthy"


def _status(answer: Mapping[str, Any], part: str) -> Any:
    return (answer.get(part) or {}).get("status")


def _holds(probe: Probe, client: Client) -> bool:
    try:
        return probe(client)
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


def _trouble(name: str, what: str, log: Path) -> str:
    lines = "\n".join(tail(log))
    return f"{name} did not start: {what}; its log, {log}, ends:\n{lines}"
