"""A trial that people look at and pause: its real controller, agent, Envoy and command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from releases import leave_package

from cli.rollouts import orders
from contract.command import StepCommand
from contract.loader import freeze_pipeline
from contract.places import CODE_FOLDER
from contract.records.record import Result
from contract.records.rollout import Rollout
from contract.records.stack import Stack as StackRecord
from contract.records.traffic import DeployRecord

CONFIG = """
name: digits
features:
  x: { dtype: float32 }
heads:
  digit: { task: multiclass_classification, classes: ["0", "1"] }
ingest:
  source: { kind: csv, files: [digits.csv] }
deploy:
  ladder_percent: [25, 100]
  ladder: all
  shadow_requests: 0
  min_seconds_per_step: 2
  timeout_seconds: 600
"""


class Trial:
    """Version 2 on trial beside version 1, and the commands of a person."""

    def __init__(self, stack, folder: Path, overrides: dict[str, object]) -> None:
        self.stack, self._environment = stack, {**os.environ, "SLIPWAY_HOME": str(folder / "home")}
        self.run = stack.layout.run("r2")
        pipeline = folder / "pipelines" / "digits"
        pipeline.mkdir(parents=True)
        (pipeline / "pipeline.yaml").write_text(CONFIG)
        freeze_pipeline(pipeline, self.run, overrides)
        leave_package(self.run, 2, "sha256:0", None)
        StackRecord(
            root=str(stack.layout.root),
            agent_url=f"http://127.0.0.1:{stack.settings.port}",
            agent_token_file=str(stack.settings.token_file),
        ).write(folder / "home" / "stack.json")

    def start(self) -> subprocess.Popen[str]:
        command = StepCommand(
            "canary", "digits", "r2", str(self.stack.layout.root), redeploy_version=1
        )
        environment = {
            **self._environment,
            "SLIPWAY_AGENT_URL": f"http://127.0.0.1:{self.stack.settings.port}",
            "SLIPWAY_AGENT_TOKEN_FILE": str(self.stack.settings.token_file),
        }
        return _started(command.arguments(), environment)

    def said(self, *words: str) -> str:
        command = [sys.executable, "-m", "cli.main", *words]
        process = _started(command, self._environment)
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said
        return said

    @property
    def rollout(self) -> Rollout:
        return self.stack.client.rollout("digits")

    def until_paused(self) -> None:
        self.stack.until(lambda: self.rollout.state == "paused", "paused")


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=CODE_FOLDER,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def trial(stack, tmp_path: Path, request: pytest.FixtureRequest) -> Trial:
    for version in (1, 2):
        stack.package(version)
    stack.serve({1: 100})
    return Trial(stack, tmp_path, getattr(request, "param", {}))


def test_a_pause_outlives_controller_and_agent_and_a_person_ends_it(trial, load_on) -> None:
    with load_on(trial.stack, callers=2) as load:
        controller = trial.start()
        trial.stack.until(lambda: trial.stack.client.plan("digits").canary is not None, "a rung")
        client = trial.stack.client  # a rung takes 2 s here, and a command may take longer
        order = orders.pause(client, client.plan("digits"), "ada", "lunch")
        assert order.words.startswith("version 2 stays at 25 % until it is resumed")
        assert order.carry_out().startswith("version 2 is paused at 25 %")
        trial.until_paused()  # its controller has seen it
        controller.send_signal(signal.SIGKILL)
        controller.wait()
        trial.stack.kill("agent")
        controller = trial.start()
        trial.stack.until(lambda: trial.rollout.seconds > 6.0, "three times a rung's time")
        trial.until_paused()
        assert trial.stack.client.plan("digits").trial == (2, 25)
        assert "paused by ada (lunch)" in trial.said("status", "digits")
        told = json.loads(trial.said("rollout", "digits", "--json"))
        assert (told["state"], told["hold"]["reason"]) == ("paused", "lunch")
        page = httpx.get(f"http://127.0.0.1:{trial.stack.settings.port}/rollouts/digits")
        assert "version 2 against version 1" in page.text
        assert "Paused by ada: lunch. Nothing passes" in page.text
        assert "version 2 continues" in trial.said("rollout", "digits", "--resume", "--yes")
        followed = trial.said("rollout", "digits", "--follow")
        output, _ = controller.communicate(timeout=180)
    assert controller.returncode == 0, output
    record = Result.read(trial.run.result("canary")).detail_as(DeployRecord)
    assert (record.outcome, [s.name for s in record.ladder]) == ("passed", ["25 %", "95 %"])
    assert "passed" in followed.splitlines()[-2]
    assert load.failures() == {}


def test_a_trial_is_aborted_by_a_person(trial, load_on) -> None:
    with load_on(trial.stack, callers=1):
        controller = trial.start()
        trial.stack.until(lambda: trial.stack.client.plan("digits").canary is not None, "a rung")
        said = trial.said("rollout", "digits", "--abort")
        controller.communicate(timeout=180)
    assert "the trial of version 2 ends; version 1 has all traffic" in said
    assert trial.stack.client.plan("digits").trial is None
    assert trial.rollout.state == "interrupted"


@pytest.mark.parametrize("trial", [{"deploy.lease_seconds": 10}], indirect=True)
def test_a_trial_outlives_its_server_and_its_judge_but_not_unjudged(trial, load_on) -> None:
    """Its server is killed: it is tried again. Its judge is: it loses its traffic until a retry."""
    stack = trial.stack
    with load_on(stack, callers=2) as load:
        judge = trial.start()
        stack.until(lambda: is_on_a_rung(trial), "a rung, with requests")
        stack.kill(stack.server(2))
        stack.until(
            lambda: any(e.kind == "died" for e in trial.rollout.events), "its death is told"
        )
        stack.until(lambda: is_on_a_rung(trial), "it is tried again")
        judge.kill()
        judge.wait()
        stack.until(lambda: stack.client.plan("digits").trial is None, "it is withdrawn")
        plan = stack.client.plan("digits")
        assert (plan.champion, plan.standby, plan.withdrawn.author) == (1, (2,), "run r2")
        assert "the serving agent withdrew the trial of version 2" in trial.said("status", "digits")
        assert trial.rollout.state == "stopped"
        lost = load.failures()
        judge = trial.start()
        output, _ = judge.communicate(timeout=300)
    assert judge.returncode == 0, output
    record = Result.read(trial.run.result("canary")).detail_as(DeployRecord)
    assert (record.outcome, [s.name for s in record.ladder]) == ("passed", ["25 %", "95 %"])
    assert record.canary_errors == 0, "what came of the death is not judged"
    assert load.failures() == lost, "neither the withdrawal nor the retry costs a request"
    assert sum(lost.values()) <= 2 * 2


def is_on_a_rung(trial: Trial) -> bool:
    plan = trial.stack.client.plan("digits")
    is_told = plan.canary is not None and trial.stack.layout.rollout.exists()
    return is_told and trial.rollout.canary.requests > 20
