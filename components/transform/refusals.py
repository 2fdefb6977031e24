"""What the user's graph refuses to compute, as a record.

tf.Transform runs the graph of `preprocessing_fn` in its own Beam function, and Beam passes the
failure of a stage on as text: its type is lost. So while a pipeline is built, that function is
replaced by one that first leaves a record beside the output of the step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tensorflow_transform.beam import impl

from contract.errors import SlipwayError
from contract.records.record import Record

_FILE = "refused.json"
_EXECUTION = "Graph execution error"
_NOISE = (
    _EXECUTION,
    "<stack",
    "You may be trying",
)  # lines with which TensorFlow surrounds what has happened


class Refusal(Record):
    """Why the user's graph failed on a batch of rows."""

    reason: str


class NotingDoFn(impl._RunMetaGraphDoFn):  # type: ignore[misc]
    """Runs the graph as tf.Transform does, and leaves a record of what it raises."""

    def __init__(self, folder: Path, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._folder = folder

    def _make_graph_state(self, saved_model_dir: str) -> Any:
        try:
            return super()._make_graph_state(saved_model_dir)
        except Exception as error:
            if _EXECUTION in str(error):  # of what the graph does once, as reading a table's file
                Refusal(reason=_in_one_line(error)).write(self._folder / _FILE)
            raise

    def _handle_batch(self, batch: Any) -> Any:
        try:
            return super()._handle_batch(batch)
        except ValueError as error:
            if error.__cause__ is not None:  # raised by the graph; what else fails here has none
                Refusal(reason=_in_one_line(error.__cause__)).write(self._folder / _FILE)
            raise


@contextmanager
def noting_refusals(folder: Path) -> Iterator[None]:
    """Let the graphs of what is built meanwhile leave a record in a folder when they fail."""
    library: Any = impl
    usual = library._RunMetaGraphDoFn
    library._RunMetaGraphDoFn = partial(NotingDoFn, folder)
    try:
        yield
    finally:
        library._RunMetaGraphDoFn = usual


def take_refusal(folder: Path) -> Refusal | None:
    """Return the record that a failed graph has left, if one has, and remove it."""
    try:
        found = Refusal.read(folder / _FILE)
    except SlipwayError:
        return None
    (folder / _FILE).unlink()
    return found


def _in_one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))
