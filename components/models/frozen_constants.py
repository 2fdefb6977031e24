"""Constants of a `preprocessing_fn` that another process would compute differently.

The function runs once in a training; what it reads of its process is then a constant of the served
graph. The hour of the training would be every caller's hour.
"""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from components.models.other_process import Elsewhere
from components.models.user_code import function_of, load_module
from contract.errors import UserCodeError

_FILE, _NAME = "preprocessing.py", "preprocessing_fn"
_SHOWN_CHARACTERS = 40
log = logging.getLogger("slipway")

Function = Callable[..., Any]
Trace = Callable[[Function], tf.Graph]
Constants = Counter[bytes]


def check_constants(folder: Path, trace: Trace) -> None:
    """Refuse a `preprocessing_fn` whose constants are others in another process.

    One that draws constants at random passes: they are the same in all of a run.

    Args:
        folder: The pipeline folder.
        trace: Returns the graph of such a function.

    Raises:
        UserCodeError: With the constant, and what the function read.
    """
    elsewhere = Elsewhere(folder)
    try:
        there = constants_of(trace(_function(elsewhere.load(_FILE))))
    except Exception as error:  # noqa: BLE001  # what it was told does not exist, such as a path
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        log.info("%s: constants not compared, facts of another process fail: %s", _FILE, said)
        return
    if not elsewhere.words:
        return
    here, again = (constants_of(trace(_function(load_module(folder, _FILE)))) for _ in range(2))
    if here == again != there:
        raise UserCodeError(
            f"{_FILE}: {_NAME}: traced as in another process it has {_differing(here, there)}. "
            f"{_FILE} {elsewhere.words}, and the model would keep what it was in the training; "
            "use a fixed number, a feature of the row, or sorted(...)"
        )


def constants_of(graph: tf.Graph) -> Constants:
    """Return the values of a graph's constants, those inside of functions and captured ones too.

    The paths of assets are left out: the files are copied into the SavedModel, the paths are not.
    """
    traced, assets = graph.as_graph_def(), _assets(graph)
    own = [node for node in traced.node if node.name not in assets]
    bodies = [own, *(function.node_def for function in traced.library.function)]
    values = [node.attr["value"].tensor for body in bodies for node in body if node.op == "Const"]
    captured = [
        one
        for one, inside in getattr(graph, "captures", ())
        if hasattr(one, "numpy") and inside.op.name not in assets
    ]
    values += [tf.make_tensor_proto(one.numpy()) for one in captured if one.dtype != tf.resource]
    return Counter(value.SerializeToString(deterministic=True) for value in values)


# --- inside -------------------------------------------------------------------------------------


def _assets(graph: tf.Graph) -> set[str]:
    """Return the names of the nodes that hold paths of assets."""
    paths = graph.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS)
    return {path.op.name for path in paths if tf.is_symbolic_tensor(path)}


def _function(module: ModuleType) -> Function:
    return function_of(module, _NAME, ("inputs",))


def _differing(own: Constants, other: Constants) -> str:
    here, there = (_shown(one) for one in (own - other, other - own))
    if not here or not there:
        return f"{'no' if here else 'a'} constant {here or there}"
    return f"the constant {there} instead of {here}"


def _shown(constants: Constants) -> str:
    if not constants:
        return ""
    value = tensor_pb2.TensorProto.FromString(next(iter(constants)))
    return str(tf.make_ndarray(value).tolist())[:_SHOWN_CHARACTERS]
