"""TensorFlow's private names stand in one module, which was read for one version."""

import importlib.util
from importlib.metadata import version

from components.models import tensorflow_internals
from contract.places import CODE_FOLDER

READ_IN = "2.21."


def test_the_private_names_are_those_of_the_version_that_is_installed() -> None:
    assert version("tensorflow").startswith(READ_IN), "look at every name in tensorflow_internals"
    assert all(hasattr(tensorflow_internals, name) for name in tensorflow_internals.__all__)
    assert importlib.util.find_spec(tensorflow_internals.SAVED_MODEL_CLI) is not None


def test_no_other_module_names_tensorflows_private_ones() -> None:
    rooms = ("cli", "components", "contract", "launching", "operators", "serving", "slipway")
    searched = (*rooms, "tests/benchmarks")
    files = [file for room in searched for file in (CODE_FOLDER / room).rglob("*.py")]
    having = {str(file.relative_to(CODE_FOLDER)) for file in files if _is_private(file.read_text())}
    assert having == {"components/models/tensorflow_internals.py"}


def _is_private(code: str) -> bool:
    return "tensorflow.python" in code or "import _pywrap" in code
