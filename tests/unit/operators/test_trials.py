"""A run that failed for good withdraws its trial, by the serving agent's real API."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
import uvicorn

from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.records.traffic import Arm, Observation, TrafficPlan
from contract.schema.pipeline import NotifyConfig
from operators.notify import FailureNotice
from operators.trials import withdraw_trial
from serving.agent.access import Access
from serving.agent.api import control_api
from serving.agent.leases import TrialLeases
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

REASON = "the run has failed in 'canary'"


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    for version in (1, 2):
        folder = PipelineLayout(tmp_path, "digits").version(version)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
    store = PlanStore(tmp_path, Capabilities(1, 2, has_shadow=True))
    arms = (
        Arm(name="stable", version=1, weight_percent=90),
        Arm(name="canary", version=2, weight_percent=10),
    )
    store.propose(TrafficPlan(pipeline="digits", arms=arms, author="run scheduled__1+00:00"))
    return store


@pytest.fixture
def environment(store: PlanStore, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables by which the agent is found."""

    def observe(pipeline: str) -> Observation:
        return Observation(pipeline=pipeline, generation=1, observed_at=datetime.now(UTC))

    app = control_api(store, Access("secret"), observe, lambda: None, TrialLeases(store))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    (tmp_path / "token").write_text("secret")
    yield {
        "SLIPWAY_AGENT_URL": f"http://127.0.0.1:{port}",
        "SLIPWAY_AGENT_TOKEN_FILE": str(tmp_path / "token"),
    }
    server.should_exit = True
    thread.join()


def run_of(store: PlanStore, run_id: str):
    return store.layout("digits").run(run_id)


def test_stable_gets_all_traffic_at_once(store, environment) -> None:
    said = withdraw_trial(run_of(store, "scheduled__1+00:00"), REASON, environment)
    assert said.startswith("Airflow withdrew the trial of version 2 (at 10 %")
    assert said.endswith(REASON)
    plan = store.current("digits")
    assert (plan.trial, plan.champion, plan.standby) == (None, 1, ())


def test_another_runs_trial_is_left_alone(store, environment) -> None:
    assert withdraw_trial(run_of(store, "other"), REASON, environment) == ""
    assert store.current("digits").trial == (2, 10)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1"])
def test_an_agent_that_cannot_be_asked_fails_nothing(store, environment, url) -> None:
    changed = {**environment, "SLIPWAY_AGENT_URL": url}
    assert withdraw_trial(run_of(store, "scheduled__1+00:00"), REASON, changed) == ""


def test_the_last_failure_of_a_task_withdraws_the_trial(store, environment, monkeypatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    task = SimpleNamespace(
        dag_id="digits", run_id="scheduled__1+00:00", task_id="delivery.canary", log_url=""
    )
    root = str(store.layout("digits").root)
    with structlog.testing.capture_logs():
        FailureNotice(NotifyConfig(), root)({"task_instance": task})
    assert store.current("digits").withdrawn.reason == REASON
