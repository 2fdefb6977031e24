"""The engines that a core can be made for, beside TensorFlow."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from components.optimize.engines.core import Core
from components.optimize.engines.litert_files import make_litert, make_litert_int8
from components.optimize.engines.openvino_files import make_openvino, make_openvino_int8

# How OpenVINO and LiteRT begin the line that names the operations that they do not know.
_TELLING = ("No conversion rule found", "Custom ops:", "TF Select ops:", "not supported")


@dataclass(frozen=True)
class Kind:
    """One way to run a core: an engine of the server, a precision, and who makes its file.

    `make` takes the core, a folder and, in int8, the names of layers to leave in float; it returns
    the file's name.
    """

    engine: str
    precision: str
    make: Callable[..., str]


KINDS = {
    "openvino": Kind("openvino", "fp32", make_openvino),
    "openvino_bf16": Kind("openvino", "bf16", make_openvino),
    "openvino_int8": Kind("openvino", "int8", make_openvino_int8),
    "litert": Kind("litert", "fp32", make_litert),
    "litert_int8": Kind("litert", "int8", make_litert_int8),
}


def make(core: Core, kind: Kind, folder: Path, float_layers: Collection[str] = ()) -> None:
    """Write all files of an engine into an existing folder."""
    file = kind.make(core, folder, float_layers) if float_layers else kind.make(core, folder)
    core.describe(core.files(kind.engine, kind.precision, file), folder)


def in_words(error: Exception) -> str:
    """Return the line of a converter's error that says what it was, of the many that it prints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if any(words in line for words in _TELLING))
    return next(telling, (lines or [type(error).__name__])[0])[:300]
