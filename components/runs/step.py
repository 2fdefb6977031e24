"""What every component process does around its work: claim, skip, publish, record, exit."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from components.runs.collector import collect_rarely
from components.runs.tracking import Tracker, note_told, open_tracker, tell_untracked
from contract.addresses import TRACKING_URI
from contract.command import StepCommand
from contract.errors import (
    EXIT_DONE,
    EXIT_UNEXPECTED,
    ConfigError,
    ConflictError,
    NotFoundError,
    SlipwayError,
)
from contract.layout import RunLayout
from contract.loader import freeze_pipeline, load_frozen, pipeline_digest
from contract.pipelines import find_pipeline
from contract.records.record import Artifact, Failure, Record, Result
from contract.roles import Role, role_of
from contract.schema.pipeline import PipelineConfig
from contract.staging.root import Root, open_root
from contract.steps import STEPS
from contract.storage import (
    Attempt,
    digest_directory,
    digest_file,
    publish_directory,
    reserve,
    size_bytes,
    write_in_reserve,
)

RecordT = TypeVar("RecordT", bound=Record)

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class Step:
    """Everything that a component's work may know. `output` is the folder to fill.

    For a step that continues its own output (train, evaluate, canary) `output` is the real folder;
    for the others it is a temporary sibling that is renamed when the work is done.
    """

    name: str
    config: PipelineConfig
    run: RunLayout
    output: Path
    attempt: Attempt
    tracker: Tracker
    redeploy_version: int | None = None
    replica: int = 0
    role: Role = field(default_factory=Role)

    def upstream(self, step: str, record: type[RecordT]) -> RecordT:
        """Return the record that an earlier step left."""
        return Result.read(self.run.result(step)).detail_as(record)


@dataclass(frozen=True)
class Outcome:
    """What the work hands back. Artifacts are paths relative to the step's folder, by name."""

    record: Record
    artifacts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


Work = Callable[[Step], Outcome]
Follow = Callable[[Role, RunLayout], None]


def main(component: str, work: Work, follow: Follow | None = None) -> None:
    """Run one component as a process and exit with its code (0 done, 1 retry, 2 do not).

    A component that several processes run together has `follow`: what those do that are not the
    chief. Only the chief claims the attempt, publishes and tracks.
    """
    collect_rarely()
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        force=True,  # tf.Transform's import warns, and so has set up the root logger already
    )
    for library in ("absl", "aiobotocore", "botocore"):  # what each feature's shape is, and such
        logging.getLogger(library).setLevel(logging.WARNING)
    command = StepCommand.parse(component, sys.argv[1:])
    try:
        role = role_of(os.environ) if follow is not None else Role()
        if follow is not None and not role.is_chief:
            _follow(command, role, follow)
        elif command.replica:
            help_step(command, work)
        else:
            run_step(command, work, role)
    except SlipwayError as error:
        log.error("%s/%s: %s", command.pipeline, command.step, error)
        log.debug("traceback", exc_info=True)
        _leave(error.exit_code)
    except Exception:
        log.exception("%s/%s: unexpected", command.pipeline, command.step)
        _leave(EXIT_UNEXPECTED)
    _leave(EXIT_DONE)


def _follow(command: StepCommand, role: Role, follow: Follow) -> None:
    root = open_root(command.root)
    run = RunLayout(root.path, command.pipeline, command.run_id)
    root.fetch(run)
    root.stage_in(run, command.step)
    follow(role, run)


def run_step(command: StepCommand, work: Work, role: Role | None = None) -> Result:
    """Run one step unless its complete record is there already, and return its record.

    The order is the contract: the artifact is published first, `result.json` last.

    Raises:
        UserError: If config, code or data are wrong.
        ConflictError: If a later attempt has taken over; then nothing was published.
    """
    root = open_root(command.root)
    run = RunLayout(root.path, command.pipeline, command.run_id)
    config = _frozen(root, run, command)
    inputs = _input_digests(run, command)
    if (done := _complete_result(root, run, command.step, inputs)) is not None:
        log.info("%s: already done by attempt %d, skipped", command.step, done.attempt)
        tell_untracked(os.environ.get(TRACKING_URI, ""), run, done)
        return done

    attempt = Attempt.claim(run.attempts(command.step))
    run.result(command.step).unlink(missing_ok=True)
    started, clock = datetime.now(UTC), time.monotonic()
    log.info("%s: start, attempt %d, run %s", command.step, attempt.number, command.run_id)
    reserve(run.failure(command.step))
    with (
        _noted_failure(root, run, command.step, attempt),
        open_tracker(os.environ.get(TRACKING_URI, ""), run, command.step) as tracker,
    ):
        root.stage_in(run, command.step)
        with (
            root.beside(run, command.step, attempt),
            _output(run, command.step) as output,
        ):
            step = Step(
                name=command.step,
                config=config,
                run=run,
                output=output,
                attempt=attempt,
                tracker=tracker,
                redeploy_version=command.redeploy_version,
                role=role or Role(),
            )
            outcome = work(step)
            artifacts = {n: _describe(output, path) for n, path in outcome.artifacts.items()}
            attempt.check()
        result = Result(
            step=command.step,
            pipeline=command.pipeline,
            run_id=command.run_id,
            attempt=attempt.number,
            started_at=started,
            seconds=time.monotonic() - clock,
            inputs=inputs,
            artifacts=artifacts,
            metrics=dict(outcome.metrics),
            reasons=outcome.reasons,
            detail=outcome.record.model_dump(mode="json"),
            tracking_run_id=tracker.run_id,
        )
        root.publish(run, result, attempt)
        tracker.log_result(result)  # after: a kill before leaves no figures of this attempt
    if tracker.is_on:
        note_told(run, result)
    log.info("%s: done in %.1f s%s", command.step, result.seconds, _in_words(result))
    return result


def help_step(command: StepCommand, work: Work) -> None:
    """Take part, as a replica above 0, in a step whose artifact and result are replica 0's.

    Raises:
        NotFoundError: If the run or what the step reads is not there.
        ConfigError: If the step takes no helpers.
        ConflictError: If another process has become this replica.
    """
    if not STEPS[command.step].takes_helpers:
        raise ConfigError([f"--replica: '{command.step}' takes no helpers; start it without"])
    root = open_root(command.root)
    run = RunLayout(root.path, command.pipeline, command.run_id)
    root.fetch(run)
    config = load_frozen(run)
    if _complete_result(root, run, command.step, _input_digests(run, command)) is not None:
        log.info("%s: already done, nothing to help with", command.step)
        return
    attempt = Attempt.claim(run.attempts(command.step, command.replica))
    name = f"{command.step}, replica {command.replica}"
    log.info("%s: start, attempt %d, run %s", name, attempt.number, command.run_id)
    clock, output = time.monotonic(), run.step(command.step)
    output.mkdir(parents=True, exist_ok=True)
    root.stage_in(run, command.step)
    with root.beside(run, command.step, attempt, command.replica):
        work(Step(command.step, config, run, output, attempt, Tracker(), replica=command.replica))
    log.info("%s: done in %.1f s", name, time.monotonic() - clock)


def _frozen(root: Root, run: RunLayout, command: StepCommand) -> PipelineConfig:
    root.fetch(run)
    if not run.frozen_pipeline.exists() or command.overrides:
        freeze_pipeline(find_pipeline(command.pipeline), run, command.overrides)
    root.share_frozen(run)
    return load_frozen(run)


def _input_digests(run: RunLayout, command: StepCommand) -> dict[str, str]:
    digests = {"pipeline": pipeline_digest(run)}
    if command.redeploy_version is not None:
        return digests | {"redeploy_version": str(command.redeploy_version)}
    for upstream in STEPS[command.step].reads:
        try:
            digests[upstream] = Result.read(run.result(upstream)).digest
        except NotFoundError as error:
            raise NotFoundError(
                f"run '{run.run_id}': '{command.step}' needs the result of '{upstream}', which is "
                f"not there ({run.result(upstream)}); run '{upstream}' first"
            ) from error
    return digests


def _complete_result(
    root: Root, run: RunLayout, step: str, inputs: dict[str, str]
) -> Result | None:
    try:
        result = Result.read(run.result(step))
    except SlipwayError:
        return None
    is_current = result.inputs == inputs and not _has_begun_since(run, step)
    is_done = is_current and root.is_whole(run, result)
    return result if is_done else None


def _has_begun_since(run: RunLayout, step: str) -> bool:
    """Tell whether the step that this one runs beside was begun again after this one's result.

    The other step is not an input: this one reads its output while it is at work. For example,
    `evaluate` has judged the checkpoints of a training that failed and now continues.
    """
    if not STEPS[step].is_beside_previous:
        return False
    names = list(STEPS)
    beside = run.attempts(names[names.index(step) - 1])
    newest = beside / str(Attempt.newest(beside))
    return newest.exists() and newest.stat().st_mtime > run.result(step).stat().st_mtime


@contextmanager
def _noted_failure(root: Root, run: RunLayout, step: str, attempt: Attempt) -> Iterator[None]:
    """Leave a record of what a step fails with: `slipway status` tells it."""
    try:
        yield
    except ConflictError:
        raise  # the step is somebody else's now
    except Exception as error:
        with suppress(SlipwayError, OSError):
            failure = Failure(
                step=step,
                attempt=attempt.number,
                exit_code=getattr(error, "exit_code", EXIT_UNEXPECTED),
                reason=str(error) or type(error).__name__,
                failed_at=datetime.now(UTC),
            )
            try:
                failure.write(run.failure(step))
            except (SlipwayError, OSError):  # the disk is full, perhaps
                write_in_reserve(run.failure(step), failure.model_dump_json())
            root.share_failure(run, step)
        raise


def _output(run: RunLayout, step: str) -> AbstractContextManager[Path]:
    folder = run.step(step)
    if not STEPS[step].is_continued:
        return publish_directory(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return nullcontext(folder)


def _describe(output: Path, path: str) -> Artifact:
    place = output / path
    digest = digest_file(place) if place.is_file() else digest_directory(place)
    return Artifact(path=path, digest=digest, size_bytes=size_bytes(place))


def _in_words(result: Result) -> str:
    figures = [f"{name} {value:g}" for name, value in result.metrics.items()]
    return "".join(f"; {text}" for text in [*figures, *result.reasons])


def _leave(code: int) -> None:
    """Exit at once: Beam and TensorFlow were seen to crash in their own tear-down (exit 139)."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
