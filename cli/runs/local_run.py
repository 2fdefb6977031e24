"""A run without Airflow: the same component processes in the same order, for a fast loop."""

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from cli.board import RUNNING, Board
from cli.runs.outcome import (
    Ending,
    ended_before,
    ending_of,
    failure,
    packaged,
    read_result,
    refusal_of,
)
from cli.runs.outcome import failed as failed_first
from cli.runs.progress import summary_of
from contract.command import StepCommand
from contract.errors import EXIT_DONE, SlipwayError
from contract.layout import RESULT, PipelineLayout, RunLayout
from contract.places import CODE_FOLDER
from contract.records.record import Result
from contract.schema.cluster import ProcessJobConfig
from contract.steps import STEPS, stages
from contract.storage import local_path
from launching.processes.process_start import ProcessStart
from launching.processes.role_processes import command_line
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import (
    own_warm_parent,
    preloaded_for,
    reason_against,
    socket_of,
)

POLL_SECONDS = 0.2
_NO_NEWS = re.compile(r"^\w+ is not available\.?$")  # tf.Transform, of optional libraries
SIBLING_SECONDS = 30.0  # how long a step may outlive its failed sibling


class _RunningStep:
    """A step's process, whose output a thread copies to a log file; `news` is set at its end."""

    def __init__(self, process: StepProcess, log: Path, news: threading.Event) -> None:
        self.process = process
        self.started_at = datetime.now(UTC)
        self._news = news
        self.message = ""
        self.exit_code: int | None = None
        threading.Thread(target=self._copy, args=(log,), daemon=True).start()

    def _copy(self, log: Path) -> None:
        with log.open("a", encoding="utf-8") as file:
            for line in self.process.lines(tick=lambda: None):
                file.write(line + "\n")
                file.flush()
                told = line.partition(" INFO ")[2]
                self.message = self.message if _NO_NEWS.search(told) else told or self.message
        self.exit_code = self.process.wait()
        self._news.set()


@dataclass(frozen=True)
class LocalRun:
    """One run of one pipeline; `command` is the first step's, the others differ in `step` only."""

    command: StepCommand
    logs: Path
    environment: Mapping[str, str]
    is_deploying: bool
    job: ProcessJobConfig = field(default_factory=ProcessJobConfig)
    warm_parent: Path | None = None

    @property
    def layout(self) -> RunLayout:
        """Where the run's artifacts are."""
        return RunLayout(local_path(self.command.root), self.command.pipeline, self.command.run_id)

    @property
    def stages(self) -> list[tuple[str, ...]]:
        """The steps to run, those side by side together."""
        is_redeployment = self.command.redeploy_version is not None
        return stages(is_redeployment=is_redeployment, is_deploying=self.is_deploying)

    def follow(self, board: Board) -> Ending:
        """Run all stages until one fails or refuses the model; `board` has a line for each step.

        A KeyboardInterrupt ends the running processes before it is raised further.
        """
        for stage in self.stages:
            ending = self._run_stage(stage, board)
            if (
                ending is None
                and STEPS[stage[0]].may_refuse
                and (ending := refusal_of(self.layout))
            ):
                board.update(stage[0], "refused", note="; ".join(ending.reasons))
            if ending is not None:
                self._skip_open(board)
                return ending
        by_records = ending_of if self.is_deploying else ended_before
        return by_records(self.layout) or packaged(self.layout) or Ending(EXIT_DONE, "done")

    def _run_stage(self, stage: Sequence[str], board: Board) -> Ending | None:
        running: dict[str, _RunningStep] = {}
        news = threading.Event()
        try:
            for step in stage:
                running[step] = self._start(step, news)
                board.update(step, RUNNING)
            return self._wait(running, board, news)
        finally:
            for one in running.values():
                if one.exit_code is None:
                    one.process.stop()

    def _start(self, step: str, news: threading.Event) -> "_RunningStep":
        self.logs.mkdir(parents=True, exist_ok=True)
        command = command_line(replace(self.command, step=step), self.layout, self.job)
        start = ProcessStart(tuple(command), self.environment, CODE_FOLDER, self.job.grace_seconds)
        process = StepProcess(start, self.layout.process_lock(step), self.warm_parent)
        return _RunningStep(process, self._log(step), news)

    def _wait(
        self, running: "Mapping[str, _RunningStep]", board: Board, news: threading.Event
    ) -> Ending | None:
        failed: list[str] = []
        deadline: float | None = None
        open_steps = set(running)
        while open_steps and (deadline is None or time.monotonic() < deadline):
            news.clear()
            for step in sorted(open_steps):
                if running[step].exit_code is None:
                    board.update(step, RUNNING, note=running[step].message)
                    continue
                open_steps.discard(step)
                if not self._has_succeeded(step, running[step], board):
                    failed.append(step)
                    deadline = deadline or time.monotonic() + SIBLING_SECONDS
            if open_steps:
                news.wait(POLL_SECONDS)
        for step in open_steps:
            board.update(step, "failed", note=f"ended because '{failed[0]}' failed")
        if not failed:
            return None
        # The records know which failed first, and `status` names that one, too.
        recorded = failed_first(self.layout)
        first = recorded.failed_step if recorded and recorded.failed_step in failed else failed[0]
        return failure(first, running[first].exit_code or 0, self._log(first))

    def _has_succeeded(self, step: str, running: "_RunningStep", board: Board) -> bool:
        if running.exit_code == 0 and self.layout.result(step).exists():
            notes = (_done_before(self.layout, step, running), summary_of(self.layout, step))
            board.update(step, "done", note="; ".join(filter(None, notes)))
            return True
        board.update(step, "failed", note=f"exit code {running.exit_code}")
        return False

    def _skip_open(self, board: Board) -> None:
        for task, row in board.rows.items():
            if row.started is None:
                board.update(task, "skipped")

    def _log(self, step: str) -> Path:
        return self.logs / f"{step}.log"


def _done_before(run: RunLayout, step: str, running: _RunningStep) -> str:
    """Say so where the result is older than the process, which then had nothing to do."""
    result = read_result(run, step)
    is_older = result is not None and result.started_at < running.started_at
    return "done before, not again" if is_older else ""


@contextmanager
def warm_parent(home: Path, run: LocalRun) -> Iterator[Path | None]:
    """Yield the socket of the warm parent that `slipway up` has started, else of one for this run.

    None where none of the two can be had: the run's processes are fresh ones then. The run's
    `warm-parent.log` says why the first, or both, do not serve it.

    Args:
        home: The state folder.
    """
    of_stack, log = socket_of(home), run.logs / "warm-parent.log"
    run.logs.mkdir(parents=True, exist_ok=True)
    if of_stack.exists():
        if not (reason := reason_against(of_stack, run.environment)):
            yield of_stack
            return
        _note(log, f"the services' warm parent does not serve this run: {reason}")
    with ExitStack() as stack:
        yield _own_parent(stack, run, log)


def _own_parent(stack: ExitStack, run: LocalRun, log: Path) -> Path | None:
    preloaded = preloaded_for(run.environment)
    try:
        return stack.enter_context(own_warm_parent(run.environment, log, preloaded))
    except OSError as error:  # no place for a socket, no room for a process
        _note(log, f"the run starts without a warm parent: {error}")
        return None


def _note(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} INFO {text}\n")


def expected_seconds(pipeline: PipelineLayout, most_runs: int = 5) -> dict[str, float]:
    """Return each step's median time over the pipeline's latest runs, by step."""
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    runs = sorted(pipeline.runs.glob("*"), key=lambda p: p.stat().st_mtime)[-most_runs:]
    for run in runs:
        for step, seen in seconds.items():
            try:
                seen.append(Result.read(run / step / RESULT).seconds)
            except SlipwayError:
                continue
    return {step: median(seen) for step, seen in seconds.items() if seen}
