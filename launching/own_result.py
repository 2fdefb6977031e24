"""Whether a step has succeeded: its own `result.json` decides, however it ended."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.command import StepCommand
from contract.errors import EXIT_DONE, EXIT_USER_ERROR, SlipwayError, UserError
from contract.layout import RunLayout
from contract.records.record import Failure, Result
from contract.storage import Attempt


@dataclass(frozen=True)
class Ending:
    """How a step's process or pods ended; without an exit code they vanished."""

    exit_code: int | None
    complaints: str

    def __str__(self) -> str:
        how = "vanished" if self.exit_code is None else f"exit code {self.exit_code}"
        return f"{how}:\n{self.complaints}"


def own_result(command: StepCommand, run: RunLayout, earlier: int, ending: Ending) -> Result:
    """Return the record that this attempt left, or that it found complete.

    Where it ended with exit code 2, and before it could leave a record of that, one is left here.

    Args:
        earlier: The newest attempt's number before this one began.

    Raises:
        UserError: If the component ended with exit code 2.
        SlipwayError: If the record is missing, or another attempt's.
    """
    newest = Attempt.newest(run.attempts(command.step))
    problem = f"{command.step}: {ending}"
    if ending.exit_code == EXIT_USER_ERROR:
        _note_failure(command.step, run, earlier, ending)
    try:
        result = Result.read(run.result(command.step))
    except SlipwayError as error:
        missing = (
            problem if ending.exit_code != EXIT_DONE else f"{error}, although it ended with success"
        )
        raise _error_of(ending)(missing) from error
    has_run = newest > earlier or ending.exit_code == EXIT_DONE
    if not has_run:
        raise _error_of(ending)(problem)
    found = (result.pipeline, result.run_id, result.step, result.attempt)
    expected = (command.pipeline, command.run_id, command.step, newest)
    if found != expected:
        raise SlipwayError(
            f"{run.result(command.step)}: not this attempt's: found {found}, expected {expected}"
        )
    return result


def _note_failure(step: str, run: RunLayout, earlier: int, ending: Ending) -> None:
    """Leave a record of what the step failed with, unless this attempt has left its own."""
    newest = Attempt.newest(run.attempts(step))
    with suppress(SlipwayError):
        if newest > earlier and Failure.read(run.failure(step)).attempt == newest:
            return
    Failure(
        step=step,
        attempt=newest,
        exit_code=EXIT_USER_ERROR,
        reason=ending.complaints or f"exit code {EXIT_USER_ERROR}",
        failed_at=datetime.now(UTC),
    ).write(run.failure(step))


def _error_of(ending: Ending) -> type[SlipwayError]:
    return UserError if ending.exit_code == UserError.exit_code else SlipwayError
