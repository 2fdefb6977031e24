"""What cannot be served, in the terms of no protocol; a front gives each class its own status.

ServingError
├── InvalidInputError     the caller's rows are wrong; the message names the place
├── TooLargeError         more rows than one request may have
├── OverloadedError       too much is waiting; the same request may succeed later
├── ModelNotFoundError    this server has no such model, version or label
├── DeadlineError         the caller would no longer wait for the answer
├── LoadingError          the model is not there yet; the same request may succeed later
├── ModelFailedError      the model is broken, whatever the rows
└── InjectedFaultError    failed on purpose (`serve.fault_ratio`)
"""

_LONGEST_WORDS = 2000  # characters: names and values of callers may be of any length

# Of a name that a caller sends; to compare a name of megabytes with ours takes seconds.
SHOWN_CHARACTERS = 200


def for_caller(error: Exception) -> str:
    """Return an error's message as every protocol sends it to the caller, cut if it is long."""
    words = str(error)
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."


class ServingError(Exception):
    """A request that cannot be served; the message is for its caller."""


class InvalidInputError(ServingError):
    """The rows are not what the model takes: place, what was found and what was expected."""


class TooLargeError(ServingError):
    """The request has more rows than can ever be queued."""


class OverloadedError(ServingError):
    """Too many rows are waiting; try again."""


class ModelNotFoundError(ServingError):
    """This server has no such model, version or label."""


class DeadlineError(ServingError):
    """The caller's deadline passed before the model was called."""


class LoadingError(ServingError):
    """The model is still loading; try again."""


class ModelFailedError(ServingError):
    """The model failed, and the values of the rows are not the cause."""


class InjectedFaultError(ServingError):
    """The rehearsal of a roll-back fails this request."""
