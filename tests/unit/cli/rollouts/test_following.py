"""Following a trial through the agent's API, of which a stand-in answers from a list."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rollouts import NOW, a_rollout
from typer.testing import CliRunner

from cli.main import app
from cli.rollouts import following
from contract.records.rollout import Rollout
from contract.records.stack import Stack
from contract.records.traffic import Arm, TrafficPlan

ON_TRIAL = TrafficPlan(
    pipeline="digits",
    arms=(
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=2, weight_percent=5),
    ),
)


class Agent(ThreadingHTTPServer):
    """Answers each question about the rollout with the next of `rollouts`; the last one stays."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rollouts: list[Rollout | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Agent

    def do_GET(self) -> None:
        if self.path.endswith("/plan"):
            self._answer(200, ON_TRIAL.model_dump_json())
            return
        left = self.server.rollouts
        rollout = left.pop(0) if len(left) > 1 else left[0]
        if rollout is None:
            self._answer(404, json.dumps({"error": "no Rollout there"}))
        else:
            self._answer(200, rollout.model_dump_json())

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    server = Agent()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    home = tmp_path / "slipway-home"
    home.mkdir(exist_ok=True)
    (home / "agent.token").write_text("secret")
    url = f"http://127.0.0.1:{server.server_port}"
    token_file = str(home / "agent.token")
    stack = Stack(root=str(tmp_path / "root"), agent_url=url, agent_token_file=token_file)
    stack.write(home / "stack.json")
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.01)
    yield server
    server.shutdown()
    server.server_close()


def test_a_trial_is_followed_from_before_its_beginning_to_its_end(agent: Agent) -> None:
    other = a_rollout(version=7, state="promoted")  # the last one, of another version
    shadow = a_rollout(phase="shadow", seconds_to_decision=None)
    agent.rollouts = [None, other, shadow, a_rollout(), a_rollout(state="passed", reason="good")]
    result = CliRunner().invoke(app, ["rollout", "digits", "--follow"])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("waits for a trial to begin") == 1
    heads = [line for line in result.stdout.splitlines() if line.startswith("digits:")]
    assert [head.partition(" at ")[2].partition(" (")[0] for head in heads] == [
        "shadow",
        "5 %",
        "5 %",
    ]
    assert heads[-1].endswith("passed  (run r2)")
    assert "time to a decision: unknown" in result.stdout
    assert "version 7" not in result.stdout


def test_for_machines_each_look_is_one_line(agent: Agent) -> None:
    later = a_rollout(looked_at=NOW.replace(minute=1), state="rolled back")
    agent.rollouts = [a_rollout(), a_rollout(), later]
    result = CliRunner().invoke(app, ["rollout", "digits", "--follow", "--json"])
    told = [Rollout.model_validate_json(line) for line in result.stdout.splitlines()]
    assert told == [a_rollout(), later]


def test_a_pipeline_without_a_trial_says_how_to_get_one(agent: Agent) -> None:
    agent.rollouts = [None]
    result = CliRunner().invoke(app, ["rollout", "digits"])
    assert result.exit_code == 2
    assert "digits: no version has been tried here yet; 'slipway run digits' tries one" in " ".join(
        result.stderr.split()
    )
