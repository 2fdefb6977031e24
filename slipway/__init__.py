"""Slipway from Python: the commands of `slipway`, for scripts and notebooks.

    import slipway

    sw = slipway.connect()
    p = sw.new("churn", frame, label="churned")   # or sw.pipeline("churn")
    run = p.run(local=True, set={"train.steps": 200})
    run.follow()
    run.metrics
    version = run.deploy()
    p.predict(frame)

It reads the same records and asks the same services as the command line, and prints nothing:
`follow` and `deploy` draw a progress bar in a notebook or at a terminal. What goes wrong is raised
as one of the errors below; `contract/errors.py` draws their tree.

Names are imported when they are first used: `slipway --help` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# First of all: it puts our packages on the path.
from slipway.code_path import CODE_FOLDER as CODE_FOLDER

if TYPE_CHECKING:
    from contract.errors import (
        ConfigError,
        ConflictError,
        DataError,
        NotFoundError,
        ServiceUnavailableError,
        SlipwayError,
        UserError,
    )
    from slipway.connection import Slipway, connect
    from slipway.pipeline import Check, Pipeline
    from slipway.report import Report
    from slipway.run import Run
    from slipway.version import Version

_HOMES = {
    "contract.errors": (
        *("ConfigError", "ConflictError", "DataError", "NotFoundError"),
        *("ServiceUnavailableError", "SlipwayError", "UserError"),
    ),
    "slipway.connection": ("Slipway", "connect"),
    "slipway.pipeline": ("Check", "Pipeline"),
    "slipway.report": ("Report",),
    "slipway.run": ("Run",),
    "slipway.version": ("Version",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Check",
    "ConfigError",
    "ConflictError",
    "DataError",
    "NotFoundError",
    "Pipeline",
    "Report",
    "Run",
    "ServiceUnavailableError",
    "Slipway",
    "SlipwayError",
    "UserError",
    "Version",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'slipway' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)
