"""A core as OpenVINO's files: float32 (run in bf16 too, where the CPU can), and int8 by NNCF."""

import logging
import sys
from collections.abc import Collection
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.optimize.engines.core import Core
from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.layers import layers_of
from contract.errors import DataError

FILE = "core.xml"
_LINEAR = frozenset(
    {
        "MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData",
        "GroupConvolutionBackpropData",
    }
)  # fmt: skip
_CALIBRATION_ROWS = 300  # NNCF's own default


def make_openvino(core: Core, folder: Path) -> str:
    """Write a float32 model and return its file name."""
    openvino = _import_openvino()
    openvino.save_model(_converted(core), str(folder / FILE), compress_to_fp16=False)
    return FILE


def make_openvino_int8(core: Core, folder: Path, float_layers: Collection[str] = ()) -> str:
    """Write a model with int8 weights and activations, calibrated on the core's feeds.

    Layers in `float_layers`, by their names in the core's graph, stay in float.

    NNCF's post-training quantisation: weights per channel, activations per tensor by the least and
    greatest value seen, with bias correction.
    """
    openvino = _import_openvino()
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    feeds = [dict(feed) for feed in core.feeds[:_CALIBRATION_ROWS]]
    model = _converted(core)
    ignored = nncf.IgnoredScope(names=_operations(model, core, float_layers))
    with redirect_stdout(StringIO()):  # it draws a progress bar
        quantized = nncf.quantize(
            model, nncf.Dataset(feeds), subset_size=len(feeds), ignored_scope=ignored
        )
    openvino.save_model(quantized, str(folder / FILE), compress_to_fp16=False)
    return FILE


def _operations(model: Any, core: Core, layers: Collection[str]) -> list[str]:
    """Return OpenVINO's names of some layers; found by their weights, for it renames convolutions.

    Raises:
        DataError: If the weights of a layer are in no operation any more.
    """
    graph = {layer.node.name: layer.weight for layer in layers_of(GraphEdit(core.core))}
    linear = [op for op in model.get_ops() if op.get_type_name() in _LINEAR]
    weights = {op.get_friendly_name(): _weight(op) for op in linear}
    found = list[str]()
    for layer in layers:
        same = [n for n, w in weights.items() if layer in graph and _are_alike(w, graph[layer])]
        if not same:
            raise DataError(f"OpenVINO has no operation with the weights of '{layer}'")
        found += same
    return found


def _weight(operation: Any) -> Array:
    """Return the constant behind the second input, through conversions of its type and shape."""
    node = operation.input_value(1).get_node()
    while node.get_input_size() and node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    is_constant = node.get_type_name() == "Constant"
    return np.asarray(node.get_data() if is_constant else 0.0, np.float64)


def _are_alike(one: Array, other: Array) -> bool:
    """Tell whether two weights hold the same numbers, in whatever order of axes."""
    return one.size == other.size and np.allclose(
        np.sort(one, axis=None), np.sort(other, axis=None), rtol=1e-5
    )


def _converted(core: Core) -> Any:
    return _import_openvino().convert_model(str(core.saved))


def _import_openvino() -> Any:
    # Importing OpenVINO or NNCF tells their makers of it over the network, unless this is absent.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
