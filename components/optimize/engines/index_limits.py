"""Which ids a core can look up, by input: not every engine refuses those beyond a table's end.

TensorFlow and LiteRT refuse an index beyond the rows of a table; OpenVINO answers something. So the
server checks inputs that are looked up as they are, or after a constant is added or a limit is set.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.graphs import SignatureGraph

Limits = tuple[int, int]  # the least and the largest value that is looked up

_LEAST, _LARGEST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)
_SAME_VALUES = {"Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StopGradient"}


def index_limits(core: SignatureGraph) -> dict[str, Limits]:
    """Return the limits of those inputs of a core that are looked up in a table of known size."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(core.graph_def, name="")
    names = {tensor: name for name, (tensor, _) in core.inputs.items()}
    found: dict[str, Limits] = {}
    for operation in graph.get_operations():
        if operation.type != "GatherV2" or (size := _table_rows(operation)) is None:
            continue
        limits = _of_input(operation.inputs[1], (0, size - 1), names)
        if limits is not None:
            name, (low, high) = limits
            least, largest = found.get(name, (_LEAST, _LARGEST))
            found[name] = (max(low, least), min(high, largest))
    return found


def _table_rows(gather: Any) -> int | None:
    """Return how many entries there are along the axis that is looked up, where that is known."""
    table, _, axis = gather.inputs
    where = tf.get_static_value(axis)
    if where is None or gather.get_attr("batch_dims") or table.shape.rank is None:
        return None
    size = table.shape[int(where)]
    return None if size is None else int(size)


def _of_input(index: Any, limits: Limits, names: Mapping[str, str]) -> tuple[str, Limits] | None:
    """Return the input that an index comes from, and which of its values are within limits."""
    low, high = limits
    while index.name not in names:
        operation = index.op
        constants = [tf.get_static_value(tensor) for tensor in operation.inputs]
        if operation.type in _SAME_VALUES and operation.inputs[0].dtype.is_integer:
            index = operation.inputs[0]
            continue
        known = [c for c in constants if c is not None and np.size(c) == 1]
        if len(constants) != 2 or len(known) != 1:
            return None
        constant, is_second = int(np.ravel(known[0])[0]), constants[1] is not None
        match operation.type:
            case "AddV2" | "Add":
                low, high = _moved(low, -constant), _moved(high, -constant)
            case "Sub" if is_second:
                low, high = _moved(low, constant), _moved(high, constant)
            case "Maximum" if low <= constant <= high:
                low = _LEAST
            case "Minimum" if low <= constant <= high:
                high = _LARGEST
            case _:
                return None
        index = operation.inputs[0 if is_second else 1]
    return names[index.name], (low, high)


def _moved(limit: int, by: int) -> int:
    return limit if limit in (_LEAST, _LARGEST) else limit + by
