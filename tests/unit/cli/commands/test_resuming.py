"""A resumed local run is what it was started as."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.commands import running
from cli.main import app
from cli.runs.outcome import Ending
from cli.stack.stack_file import artifact_root
from contract.command import StepCommand
from contract.errors import EXIT_DONE
from contract.layout import RunLayout
from contract.records.record import StartedAs

runner = CliRunner()
RUN = "local-20260131T120000-1f4c"


@pytest.fixture
def run() -> RunLayout:
    """A local run of the digits that has begun."""
    found = RunLayout(Path(artifact_root()), "digits", RUN)
    found.frozen_pipeline.mkdir(parents=True)
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StepCommand, bool]]:
    """What the command line would start, in place of the processes of a run."""
    found: list[tuple[StepCommand, bool]] = []

    def note(command: StepCommand, is_deploying: bool) -> Ending:
        found.append((command, is_deploying))
        return Ending(EXIT_DONE, "packaged")

    monkeypatch.setattr(running, "run_locally", note)
    return found


def resume(*more: str) -> int:
    return runner.invoke(app, ["run", "digits", "--local", "--resume", RUN, *more]).exit_code


def test_a_redeployment_stays_one(run: RunLayout, started) -> None:
    StartedAs(redeploy_version=3, is_deploying=True).write(run.started_as)
    assert resume("--no-deploy") == 0
    ((command, is_deploying),) = started
    assert (command.step, command.redeploy_version, command.run_id) == ("package", 3, RUN)
    assert not is_deploying


def test_one_that_deploys_goes_on_to_deploy_and_needs_the_services(run: RunLayout, started) -> None:
    StartedAs(redeploy_version=3, is_deploying=True).write(run.started_as)
    result = runner.invoke(app, ["run", "digits", "--local", "--resume", RUN])
    assert result.exit_code == 1
    assert "start them with 'slipway up'" in result.stderr
    assert started == []


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_whole_run_stays_one_also_of_an_older_slipway(
    run: RunLayout, started, is_noted: bool
) -> None:
    if is_noted:
        StartedAs(is_deploying=False).write(run.started_as)
    assert resume() == 0
    ((command, is_deploying),) = started
    assert (command.step, command.redeploy_version, is_deploying) == ("ingest", None, False)
