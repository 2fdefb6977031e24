"""`slipway demo labels`: a model of 150 rows learns from what people are asked, in real Airflow.

Callers send digits that the model has not seen. Each loop asks five people, of whom one guesses
and one is always wrong, about sixty to 120 of them; their labels start a run by an asset event, and
its model goes through bless, canary and promotion as every other.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from cli.commands.running import run_in_airflow
from cli.commands.services import plan_stack, show_stack, start_stack
from cli.demo import loop_report
from cli.demo.acts import TYPICAL_SECONDS
from cli.demo.digit_rows import CLASSES, NAME, DigitRows, write_pipeline
from cli.demo.labellers import Labeller, LabelPage, label_page
from cli.demo.loop_report import Looped, accuracy_of
from cli.demo.stage import run_demo
from cli.demo.stream import Stream
from cli.output import notes, say
from cli.runs.airflow_api import AirflowClient
from cli.runs.follow import Follower
from cli.runs.starting import new_run_id
from contract.command import StepCommand
from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, ServiceUnavailableError
from contract.layout import PipelineLayout
from contract.records.label_loop import LabelLoopRecord
from contract.records.stack import Stack

LOOPS = 3
PEOPLE = (
    Labeller("ada", 0.97),
    Labeller("bob", 0.95),
    Labeller("cyd", 0.92),
    Labeller("dan", 0.1),  # guesses: of ten classes one in ten is right
    Labeller("eve", 0.0),  # always wrong
)
ROWS_PER_LOOP = 400
SETTLED_SECONDS = 11.0  # the loop leaves out what is younger than ten
ASKED_SECONDS = 300.0
_LOOP = f"{NAME}.labels"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Scene:
    """What a loop works with."""

    airflow: AirflowClient
    layout: PipelineLayout
    page: LabelPage
    stream: Stream
    rows: DigitRows


def main(loops: int = LOOPS) -> int:
    """Play the demo and return the exit code: 0 only if all loops ended as expected."""
    return run_demo(lambda home: _play(home, loops))


def _play(home: Path, loops: int) -> int:
    from cli.stack.stack import DataPlaneOptions

    began, rows = time.monotonic(), DigitRows.load()
    (home / "pipelines").mkdir()
    write_pipeline(home / "pipelines", rows)
    os.environ["SLIPWAY_PIPELINES"] = str(home / "pipelines")
    plan = plan_stack([], True, DataPlaneOptions())
    start_stack(plan)
    show_stack(plan.stack)
    layout = PipelineLayout(plan.root, NAME)
    say("\n[bold cyan]The first model, of 150 labelled rows[/]")
    run_id = new_run_id("first")
    first = run_in_airflow(StepCommand("ingest", NAME, run_id, str(plan.root)), TYPICAL_SECONDS)
    if first.outcome != "promoted":
        return _stopped(home, first.outcome)
    done = [Looped(accuracy=accuracy_of(layout.run(run_id)), version=first.version or 0)]
    say(
        f"[green]✓[/] version {done[0].version} is right in {done[0].accuracy:.1%} of the test rows"
    )
    with _scene(home, plan.stack, layout, rows) as scene:
        for number in range(1, loops + 1):
            done.append(_loop(scene, number))
            if done[-1].outcome != "promoted":
                return _stopped(home, done[-1].outcome)
    loop_report.show(done, layout, rows)
    say(f"The demo took {time.monotonic() - began:.0f} s.")
    return EXIT_DONE


def _stopped(home: Path, outcome: str) -> int:
    say(f"[bold red]The demo stops here[/]: {escape(outcome)}; logs are in {escape(str(home))}")
    return EXIT_UNEXPECTED


@contextmanager
def _scene(home: Path, stack: Stack, layout: PipelineLayout, rows: DigitRows) -> Iterator[Scene]:
    """Let callers send rows, and serve the label page, while loops go on."""
    with (
        label_page(PEOPLE, NAME, os.environ, home / "logs" / "labels.log") as page,
        AirflowClient.of(stack) as airflow,
        closing(Stream(stack, layout, rows.requests())) as stream,
    ):
        say(f"Label page  {page.url}   (tokens: 'slipway token add NAME --right label')")
        yield Scene(airflow, layout, page, stream, rows)


def _loop(scene: Scene, number: int) -> Looped:
    """Ask, let people answer, and follow the run that their labels start."""
    say(f"\n[bold cyan]Loop {number}[/]")
    with notes.status("Callers send rows"):
        scene.stream.await_answers(ROWS_PER_LOOP, ASKED_SECONDS)
        time.sleep(SETTLED_SECONDS)
    _turn(scene, f"ask-{number}")
    with notes.status(f"{len(PEOPLE)} people answer"):
        answers = scene.page.answer_all(NAME, PEOPLE, scene.rows.truth, CLASSES)
    answered, before = time.monotonic(), _runs(scene)
    questions = answers // len(PEOPLE)  # of the last turn, too: each asks about new rows
    say(f"  {questions:,} questions, {answers:,} answers over HTTP by {len(PEOPLE)} people")
    _turn(scene, f"learn-{number}")
    learned = LabelLoopRecord.read(scene.layout.label_loop)
    for words in learned.in_words(1):
        say(f"  {escape(words)}")
    run_id = _started(scene, before)
    follower = Follower(scene.airflow, NAME, run_id)
    run = scene.layout.run(run_id)
    with follower.board(f"{NAME}, run {run_id}", TYPICAL_SECONDS) as board:
        ending = follower.follow(board, run)
    seconds = time.monotonic() - answered
    for reason in ending.reasons:
        say(f"  {escape(reason)}")
    if ending.outcome != "promoted":
        return Looped(0.0, 0, outcome=ending.outcome)
    looped = Looped(accuracy_of(run), ending.version or 0, learned.added, seconds)
    say(
        f"[green]✓[/] version {looped.version} is right in {looped.accuracy:.1%} of the test rows, "
        f"and in service {seconds / 60:.1f} minutes after the last answer"
    )
    return looped


def _turn(scene: Scene, run_id: str) -> None:
    """Run the DAG of the label loop, as its schedule does."""
    scene.airflow.trigger(_LOOP, run_id, {})
    with notes.status(f"{_LOOP}, run {run_id}"):
        while (state := scene.airflow.run(_LOOP, run_id)["state"]) not in ("success", "failed"):
            time.sleep(_POLL_SECONDS)
    if state == "failed":
        tasks = scene.airflow.task_instances(_LOOP, run_id)
        failed = next(task for task in tasks if task["state"] == "failed")
        log = "\n".join(scene.airflow.log(failed)[-10:])
        raise ServiceUnavailableError(f"{_LOOP}: '{failed['task_id']}' has failed:\n{log}")


def _runs(scene: Scene) -> set[str]:
    return {str(run["dag_run_id"]) for run in scene.airflow.runs(NAME, 20)}


def _started(scene: Scene, before: set[str]) -> str:
    """Return the run that the asset event has started."""
    until = time.monotonic() + ASKED_SECONDS
    while time.monotonic() < until:
        if new := _runs(scene) - before:
            return new.pop()
        time.sleep(_POLL_SECONDS)
    raise ServiceUnavailableError(f"{NAME}: no run has started in {ASKED_SECONDS:.0f} s")
