"""`slipway promote` and `slipway rollback` against a real agent: asked, killed, and two at once."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from releases import leave_stage

from contract.places import CODE_FOLDER
from contract.records.stack import Stack as StackRecord
from contract.records.traffic import DeployRecord, TrafficPlan
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

# Promotes version 2 and rolls back from it, again and again, until it is killed.
STEERING = """
import sys
from pathlib import Path
from contract.records.traffic import Arm, BadVersion, TrafficPlan
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

store = PlanStore(Path(sys.argv[1]), Capabilities(1, 2, True))
while True:
    now = store.current("digits")
    version = 1 if now.champion == 2 else 2
    store.propose(
        TrafficPlan(
            pipeline="digits",
            generation=now.generation,
            arms=(Arm(name="stable", version=version, weight_percent=100),),
            bad=(BadVersion(version=2),) if version == 1 else (),
        )
    )
"""
KILLS = 8


class Terminal:
    """The command line on a machine whose agent runs."""

    def __init__(self, stack, home: Path) -> None:
        self.stack = stack
        StackRecord(
            root=str(stack.layout.root),
            agent_url=f"http://127.0.0.1:{stack.settings.port}",
            agent_token_file=str(stack.settings.token_file),
        ).write(home / "stack.json")
        self._environment = {**os.environ, "SLIPWAY_HOME": str(home)}

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            cwd=CODE_FOLDER,
            env=self._environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said, _ = process.communicate(timeout=180)
        return process.returncode, said

    def answered(self, answer: str, *words: str) -> tuple[int, str]:
        """Run a command whose stdin is a terminal at which somebody types an answer."""
        ours, theirs = pty.openpty()
        os.write(ours, answer.encode() + b"\n")
        process = self.start(*words, stdin=theirs)
        said, _ = process.communicate(timeout=180)
        os.close(ours)
        os.close(theirs)
        return process.returncode, said

    @property
    def champion(self) -> int | None:
        return self.stack.client.plan("digits").champion


@pytest.fixture
def terminal(stack, tmp_path: Path) -> Terminal:
    """Versions 1, 2 and 3 were champions one after another."""
    for version in (1, 2, 3, 4):
        stack.package(version)
    for version in (1, 2, 3):
        stack.serve({version: 100}, standby=(version - 1,) if version > 1 else ())
    return Terminal(stack, tmp_path / "cli-home")


def test_at_a_terminal_both_say_what_they_will_do_and_ask(terminal) -> None:
    code, said = terminal.answered("n", "rollback", "digits")
    assert (code, terminal.champion) == (1, 3)
    assert "digits: all traffic goes from version 3 to version 2: it was champion before" in said
    assert "Nothing was changed." in said
    code, _ = terminal.answered("y", "rollback", "digits")
    assert (code, terminal.champion) == (0, 2)
    code, said = terminal.answered("n", "promote", "digits", "--version", "3", "--force")
    assert (code, terminal.champion) == (1, 2)
    assert "all traffic goes from version 2 to version 3: named by number and forced" in said
    assert re.search(r"warning: version 3 did not pass: \S+ at the command line rolled back", said)
    code, said = terminal.answered("n", "promote", "digits", "--version", "3", "--force", "--yes")
    assert (code, terminal.champion) == (0, 3)
    assert "Do it?" not in said


def test_rollback_twice_never_brings_a_bad_version_back(terminal) -> None:
    assert terminal.run("rollback", "digits")[0] == 0
    assert terminal.run("rollback", "digits")[0] == 0
    assert terminal.champion == 1
    code, said = terminal.run("rollback", "digits")
    assert (code, terminal.champion) == (2, 1)
    assert "version 1 has no earlier champion to return to" in said


def test_promote_picks_only_a_version_that_passed(terminal) -> None:
    code, said = terminal.run("promote", "digits")
    assert (code, terminal.champion) == (2, 3)
    assert "version 4: no record of a trial was found" in said
    record = DeployRecord(stage="canary", outcome="passed", version=4, champion_version=3)
    leave_stage(terminal.stack.layout.run("r"), "canary", record)
    assert terminal.run("promote", "digits")[0] == 0
    assert terminal.champion == 4


def test_of_two_rollbacks_at_once_no_one_skips_a_version_unseen(terminal) -> None:
    """Each goes back by one from a plan that it showed, or is refused; none acts on an old plan."""
    both = [terminal.start("rollback", "digits") for _ in range(2)]
    said = [process.communicate(timeout=180)[0] for process in both]
    plan = terminal.stack.client.plan("digits")
    left = {int(v) for text in said for v in re.findall(r"goes from version (\d) to", text)}
    went = [process.returncode for process in both]
    assert went[0] == 0 or went[1] == 0
    assert {mark.version for mark in plan.bad} == left
    assert plan.champion == min(left) - 1
    assert plan.lineage == tuple(range(1, plan.champion + 1))


def test_a_command_killed_at_any_moment_has_gone_back_once_or_not_at_all(terminal) -> None:
    """The plan and its history agree whenever the kill comes, and the next command works."""
    for pause in (0.4, 0.8, 1.0, 1.2, 1.6):
        before = terminal.champion
        process = terminal.start("rollback", "digits")
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=180)
        plan = terminal.stack.client.plan("digits")
        assert plan.champion in (before, before - 1)
        assert plan.champions[-1].version == plan.lineage[-1] == plan.champion
        has_gone = plan.champion != before
        assert (plan.mark_of(before) is not None) == has_gone
        if has_gone:
            words = ("promote", "digits", "--version", str(before), "--force")
            assert terminal.run(*words)[0] == 0
    assert terminal.run("rollback", "digits")[0] == 0
    assert terminal.champion == 2


def test_a_store_killed_at_any_moment_leaves_a_plan_whose_history_fits(tmp_path: Path) -> None:
    store = PlanStore(tmp_path, Capabilities(1, 2, True))
    layout = store.layout("digits")
    for version in (1, 2):
        layout.version(version).mkdir(parents=True)
        (layout.version(version) / "package.json").write_text("{}")
    for kill in range(KILLS):
        generation = store.current("digits").generation
        writer = subprocess.Popen([sys.executable, "-c", STEERING, str(tmp_path)], cwd=CODE_FOLDER)
        least = generation + 2 + kill
        until(lambda: store.current("digits").generation >= least)  # noqa: B023 (called at once)
        writer.kill()
        writer.wait()
        found = TrafficPlan.read(layout.traffic_plan)
        assert found.generation > generation
        assert found.champions[-1].version == found.lineage[-1] == found.champion
        assert [mark.version for mark in found.bad] == ([2] if found.champion == 1 else [])


def until(is_so: Callable[[], bool]) -> None:
    started = datetime.now(UTC)
    while not is_so():
        assert (datetime.now(UTC) - started).total_seconds() < 120
