"""What cannot be served, in the terms of no protocol; a front gives each class its own status.

ServingError
├── InvalidInputError     the caller's rows are wrong; the message names the place
├── TooLargeError         more rows than one request may have
├── OverloadedError       too much is waiting; the same request may succeed later
└── InjectedFaultError    failed on purpose (`serve.fault_ratio`)
"""


class ServingError(Exception):
    """A request that cannot be served; the message is for its caller."""


class InvalidInputError(ServingError):
    """The rows are not what the model takes: place, what was found and what was expected."""


class TooLargeError(ServingError):
    """The request has more rows than can ever be queued."""


class OverloadedError(ServingError):
    """Too many rows are waiting; try again."""


class InjectedFaultError(ServingError):
    """The rehearsal of a roll-back fails this request."""
