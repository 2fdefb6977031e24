"""The errors Slipway raises on purpose.

SlipwayError                    exit code 1: unexpected, may be retried
├── ConflictError               somebody else owns it or changed it first
├── StorageError                the disk or object store said no; nothing half-written is left
├── ServiceUnavailableError     the serving agent, Airflow or MLflow did not answer
└── UserError                   exit code 2: do not retry, fix the config, code, data or disk
    ├── ConfigError             pipeline.yaml, a runtime file or an override
    ├── UserCodeError           preprocessing_fn, build_model or a hook raised or returned wrongly
    ├── DataError               the data is missing, broken or not what the config says
    ├── DiskFullError           no space, or no quota, is left; nothing half-written is, either
    └── NotFoundError           no such pipeline, run, version or artifact

A message says where, what was found, what was expected, and what to do next.
"""

import difflib
from collections.abc import Iterable, Sequence

EXIT_DONE = 0
EXIT_UNEXPECTED = 1
EXIT_USER_ERROR = 2


class SlipwayError(Exception):
    """Root of every error raised on purpose; `exit_code` is the process exit code it ends in."""

    exit_code = EXIT_UNEXPECTED


class ConflictError(SlipwayError):
    """Somebody else owns the thing, or changed it since it was read."""


class StorageError(SlipwayError):
    """Storage refused a read or write; no half artifact is left behind."""


class ServiceUnavailableError(SlipwayError):
    """A service that the step needs did not answer in time."""


class UserError(SlipwayError):
    """The config, code, data or disk is at fault: retrying the same thing cannot help."""

    exit_code = EXIT_USER_ERROR


class ConfigError(UserError):
    """One config file, runtime file or set of overrides is wrong; all its problems at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UserCodeError(UserError):
    """A user's function raised, or returned something else than its contract says."""


class DataError(UserError):
    """The data is missing, broken, or not what the config says it is."""


class DiskFullError(UserError):
    """No space or no quota is left: waiting frees none, and a retry writes as much again."""


class NotFoundError(UserError):
    """No such pipeline, run, version or artifact."""


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or ``""`` if none is near."""
    near = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
