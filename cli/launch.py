"""Start the services, wait until each is healthy, and stop them all for certain."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from cli.board import RUNNING, Board
from cli.interrupts import run_interruptibly
from cli.logs import tail
from cli.services import stack_path
from cli.stack import (
    LOOPBACK,
    Plan,
    airflow_programs,
    base_programs,
    make_secrets,
    task_environment,
)
from contract.errors import ServiceUnavailableError
from contract.loader import PROJECT
from operators.airflow_settings import migrate_command
from serving.agent.supervision import Supervisor, write_configuration

HEALTHY_SECONDS = 180.0
POLL_SECONDS = 0.5
PROBE_SECONDS = 5.0
DATABASE = "airflow-database"
GIVEN_UP = frozenset({"FATAL", "EXITED"})
MAX_STARTS = 2  # supervisord starts what ends again and again; whoever waits wants to know why

Probe = Callable[[httpx.Client], bool]


def start(plan: Plan, board: Board) -> None:
    """Start everything in `plan`, show it on `board` and return when all of it is healthy.

    Raises:
        ServiceUnavailableError: If a service does not come up; with the last lines of its log.
    """
    make_secrets(plan)
    supervisor = Supervisor(plan.supervisor_home)
    base = base_programs(plan)
    for program in base:
        board.update(program.name, RUNNING)
    if supervisor.is_running() or not plan.has_airflow:
        _supervise(plan, supervisor, with_airflow=plan.has_airflow)
    else:
        _supervise(plan, supervisor, with_airflow=False)
    if plan.has_airflow:
        _migrate(plan, board)
        _supervise(plan, supervisor, with_airflow=True)
    _wait_until_healthy(plan, supervisor, board)
    plan.stack.write(stack_path())


def stop(supervisor_home: Path) -> None:
    """Stop every program and what they started; nothing of it runs any more on return."""
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


def services_of(plan: Plan) -> list[list[str]]:
    """Return the lines of the board: what starts side by side together."""
    base = [program.name for program in base_programs(plan)]
    if not plan.has_airflow:
        return [base]
    return [[*base, DATABASE], [program.name for program in airflow_programs(plan)]]


def _supervise(plan: Plan, supervisor: Supervisor, *, with_airflow: bool) -> None:
    programs = base_programs(plan) + (airflow_programs(plan) if with_airflow else [])
    write_configuration(plan.supervisor_home, programs)
    supervisor.start()


def _migrate(plan: Plan, board: Board) -> None:
    board.update(DATABASE, RUNNING)
    log = plan.logs / f"{DATABASE}.log"
    with log.open("ab") as file:
        code = run_interruptibly(
            migrate_command(),
            env={**os.environ, **task_environment(plan)},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if code != 0:
        board.update(DATABASE, "failed", note=f"exit code {code}")
        raise _trouble(DATABASE, f"exit code {code}", log)
    board.update(DATABASE, "done")


def _wait_until_healthy(plan: Plan, supervisor: Supervisor, board: Board) -> None:
    probes = _probes(plan)
    deadline = time.monotonic() + HEALTHY_SECONDS
    processes: dict[str, set[int]] = {name: set() for name in probes}
    for name in probes:
        board.update(name, RUNNING)
    with httpx.Client(timeout=PROBE_SECONDS, trust_env=False) as client:
        while probes:
            for name in [name for name, probe in probes.items() if _holds(probe, client)]:
                board.update(name, "done", note="healthy")
                del probes[name]
            states = supervisor.states()
            for name in probes:
                state = states.get(name)
                processes[name] |= {state.pid} - {0} if state else set()
                if state is None or state.state in GIVEN_UP:
                    what = "it ended"
                elif len(processes[name]) > MAX_STARTS:
                    what = f"it ended {MAX_STARTS} times"
                elif time.monotonic() > deadline:
                    what = f"not healthy after {HEALTHY_SECONDS:.0f} s"
                else:
                    continue
                board.update(name, "failed")
                raise _trouble(name, what, plan.logs / f"{name}.log")
            time.sleep(POLL_SECONDS)


def _probes(plan: Plan) -> dict[str, Probe]:
    """Return how to tell that each service is healthy, by program name."""
    stack = plan.stack
    admin = f"http://{LOOPBACK}:{plan.ports['envoy_admin']}"
    probes = {
        # its first use of the database takes seconds: let that be over before the first step
        "mlflow": lambda c: (
            c.post(
                f"{stack.tracking_uri}/api/2.0/mlflow/experiments/search", json={"max_results": 1}
            ).is_success
        ),
        "agent": lambda c: c.get(f"{stack.agent_url}/healthz").is_success,
        "envoy": lambda c: c.get(f"{admin}/ready").is_success,
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


def _airflow_probe(health: str, part: str) -> Probe:
    return lambda client: _status(client.get(health).json(), part) == "healthy"


def _status(answer: Mapping[str, Any], part: str) -> Any:
    return (answer.get(part) or {}).get("status")


def _holds(probe: Probe, client: httpx.Client) -> bool:
    try:
        return probe(client)
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


def _trouble(name: str, what: str, log: Path) -> ServiceUnavailableError:
    lines = "\n".join(tail(log))
    return ServiceUnavailableError(f"{name} did not start: {what}; its log, {log}, ends:\n{lines}")
