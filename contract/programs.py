"""Programs that one room starts in another: the doors that no import shows.

Components must not import serving, so they name what they start there. All such names are here; a
test checks that each exists, and that no other module spells one.
"""

import os
import sys

# A variable of a step that is a fork: the socket of its warm parent.
WARM_PARENT = "SLIPWAY_WARM_PARENT"

FORKED_PROGRAM = "launching.processes.forked_program"  # runs another one as a fork of that parent
MODEL_SERVER = "serving.server"
STANDALONE_SERVER = "serving.standalone"  # many models, as tensorflow_model_server
IMPORTED_MODEL_SERVER = "serving.standalone.packaged"  # one package of an imported model
MODEL_TRIAL = "serving.server.trial"  # loads a model as a server would, and measures it
MODEL_LOADER = "serving.server.pyfunc"  # MLflow imports it where a registered version is loaded
TRACKING_SERVER = "serving.tracking"


def component_program(component: str) -> str:
    """Return the program of a component."""
    return f"components.{component}"


def program_command(program: str, python: str = sys.executable) -> list[str]:
    """Return the beginning of the command line that runs a program."""
    return [python, "-m", program]


def warm_command(program: str) -> list[str]:
    """Return the command line of a program that starts as this step has: as a fork or fresh."""
    command, parent = program_command(program), os.environ.get(WARM_PARENT)
    return [*program_command(FORKED_PROGRAM), parent, *command] if parent else command
