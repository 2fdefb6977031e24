"""The record of what a user's graph refuses."""

from pathlib import Path
from typing import Any

import pytest
from tensorflow_transform.beam import impl

from components.transform.refusals import NotingDoFn, Refusal, noting_refusals, take_refusal


class Graph:
    """In place of the loaded graph: it fails, or returns what it is given."""

    def __init__(self, error: Exception | None) -> None:
        self.outputs_tensor_keys = ["x"]
        self._error = error

    def callable_get_outputs(self, given: dict[str, object]) -> dict[str, object]:
        if self._error is not None:
            raise self._error
        return given


def handling(folder: Path, error: Exception | None) -> Any:
    """Return a function of a pipeline whose graph is loaded already."""
    made: Any = NotingDoFn.__new__(NotingDoFn)
    made._folder = folder
    made._use_tf_compat_v1 = False
    made._graph_state = Graph(error)
    made._make_feed_dict = lambda batch: {"x": batch}
    made._update_metrics = lambda _: None
    made._get_passthrough_data_from_recordbatch = _passed_through
    return made


def _passed_through(batch: object) -> dict[str, object]:
    if batch == "bad passthrough":
        raise ValueError("not a list")
    return {}


def test_what_a_graph_raises_is_left_as_a_record_and_raised(tmp_path: Path) -> None:
    error = RuntimeError("Graph execution error:\n\n bad row \n<stack of operations>\nexpected 3")
    with pytest.raises(ValueError, match="trying to apply the transformation") as raised:
        handling(tmp_path, error)._handle_batch("rows")
    assert raised.value.__cause__ is error
    assert take_refusal(tmp_path) == Refusal(reason="bad row expected 3")
    assert take_refusal(tmp_path) is None  # it was taken


def test_a_failure_beside_the_graph_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a list"):
        handling(tmp_path, None)._handle_batch("bad passthrough")
    assert take_refusal(tmp_path) is None


def test_only_what_is_built_meanwhile_leaves_records(tmp_path: Path) -> None:
    usual = impl._RunMetaGraphDoFn
    with pytest.raises(KeyError, match="in the building"), noting_refusals(tmp_path):
        assert impl._RunMetaGraphDoFn.func is NotingDoFn  # type: ignore[attr-defined]
        raise KeyError("in the building")
    assert impl._RunMetaGraphDoFn is usual
