"""The page of live predictions asks the real agent who answers."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from rollouts import a_rollout

from cli.labels.live import traffic
from contract.errors import ServiceUnavailableError
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.loader import state_folder
from contract.records.stack import Stack
from contract.records.traffic import Arm, Observation, TrafficPlan
from serving.agent.access import Access
from serving.agent.api import control_api
from serving.agent.leases import TrialLeases
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities


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
    store.propose(TrafficPlan(pipeline="digits", arms=arms, author="run r2"))
    return store


def write_stack(root: Path, url: str) -> None:
    home = state_folder()
    home.mkdir(parents=True, exist_ok=True)
    token = home / "agent.token"
    token.write_text("secret")
    Stack(root=str(root), agent_url=url, agent_token_file=str(token)).write(home / "stack.json")


@pytest.fixture
def agent(store: PlanStore, tmp_path: Path) -> Iterator[None]:
    def observe(pipeline: str) -> Observation:
        return Observation(pipeline=pipeline, generation=1, observed_at=datetime.now(UTC))

    app = control_api(store, Access("secret"), observe, lambda: None, TrialLeases(store))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    write_stack(tmp_path, f"http://127.0.0.1:{port}")
    yield
    server.should_exit = True
    thread.join()


def test_the_plan_and_the_trial_are_the_agents(store: PlanStore, agent: None) -> None:
    ask = traffic()
    found = ask("digits")
    assert found.plan is not None and found.rollout is None and not found.problem
    assert [(arm.version, arm.weight_percent) for arm in found.plan.arms] == [(1, 90), (2, 10)]
    a_rollout().write(store.layout("digits").rollout)
    assert ask("digits").rollout == a_rollout()


def test_without_services_the_traffic_is_not_known() -> None:
    assert traffic()("digits").problem == "No services are running here: the traffic is not known."


def test_an_agent_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    write_stack(tmp_path, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceUnavailableError, match="no answer"):
        traffic()("digits")
