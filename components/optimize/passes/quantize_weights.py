"""Weights are stored in 8 (or 16) bits and turned back to float where they are used.

In the graph: `Const int8 → Cast → Mul scale → layer`, the form that OpenVINO and LiteRT read as a
compressed weight, too. Tables of embeddings are looked up in int8 and only the rows found are
turned back. Small results (up to 100 KiB) TensorFlow computes once, when it loads the model;
larger ones at each call, which costs memory traffic and no more (see docs/optimizer.md).
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.editing import Array, GraphEdit, attribute
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.layers import Layer, layers_of, not_layers
from components.optimize.passes.change import Change, Findings, change_of
from components.optimize.passes.strip_unused_nodes import strip
from contract.schema.passes import QuantizeWeights

LARGEST_INT8 = 127  # -128 is not used, so that the range is symmetric
_GATHERS = ("GatherV2", "Gather")


def apply(
    model: GraphModel, settings: QuantizeWeights, float_layers: Collection[str] = ()
) -> Change:
    """Quantise the weights of linear layers and embedding tables, but not of `float_layers`.

    int8: symmetric, one scale for each output channel (embedding: each column), so that the
    largest weight of a channel becomes 127. float16: rounded to the nearest.
    """
    findings = Findings()
    changed = model.rewritten(lambda one: _quantize(one, settings, float_layers, findings))
    return change_of(model, changed, findings)


def quantizable(model: GraphModel, settings: QuantizeWeights) -> tuple[str, ...]:
    """Return the names of the layers that `apply` would change, in graph order."""
    names: dict[str, None] = {}
    for signature in model.signatures.values():
        edit = GraphEdit(signature)
        layers = [layer.node for layer in layers_of(edit) if _is_large(layer.weight, settings)]
        tables = [node for node, _ in _tables(edit, settings)]
        names |= dict.fromkeys(node.name for node in [*layers, *tables])
    return tuple(names)


def scale_of(weight: Array, axes: tuple[int, ...]) -> Array:
    """Return the step of int8 for each channel, shaped to broadcast over the weight.

    The largest magnitude of a channel over 127; 1 for a channel of zeros.
    """
    others = tuple(axis for axis in range(weight.ndim) if axis not in axes)
    largest = np.max(np.abs(weight), axis=others, keepdims=True)
    return np.where(largest > 0, largest / LARGEST_INT8, 1.0).astype(np.float32)


def to_int8(weight: Array, scale: Array) -> Array:
    """Return the nearest steps, in [-127, 127]."""
    steps = np.rint(weight.astype(np.float64) / scale)
    return np.clip(steps, -LARGEST_INT8, LARGEST_INT8).astype(np.int8)


def quantize_layer(edit: GraphEdit, layer: Layer) -> None:
    """Let a layer read its weight from int8."""
    name = layer.node.name
    scale = scale_of(layer.weight, layer.output_axes)
    stored = edit.add_constant(f"{name}/weight_int8", to_int8(layer.weight, scale))
    layer.node.input[layer.weight_index] = _from_int8(edit, name, stored, scale)


def _quantize(
    signature: SignatureGraph,
    settings: QuantizeWeights,
    float_layers: Collection[str],
    findings: Findings,
) -> SignatureGraph:
    edit = GraphEdit(signature)
    findings.refused.update(not_layers(edit))
    layers = [one for one in layers_of(edit) if one.node.name not in float_layers]
    for layer in layers:
        if not _is_large(layer.weight, settings):
            findings.refuse(layer.node.name, f"fewer than {settings.minimum_size} finite weights")
            continue
        findings.match(layer.node.name)
        if settings.dtype == "int8":
            quantize_layer(edit, layer)
        else:
            layer.node.input[layer.weight_index] = _from_float16(edit, layer)
    for node, table in list(_tables(edit, settings)):
        if node.name not in float_layers:
            _quantize_table(edit, node, table, settings)
            findings.match(node.name)
    return strip(edit.result())


def _is_large(weight: Array, settings: QuantizeWeights) -> bool:
    return weight.size >= settings.minimum_size and bool(np.all(np.isfinite(weight)))


def _from_int8(edit: GraphEdit, name: str, stored: str, scale: Array) -> str:
    """Add the nodes that turn int8 into float; return the last one's name."""
    steps = edit.add_constant(f"{name}/weight_scale", scale)
    wide = edit.add("Cast", f"{name}/weight_wide", [stored], SrcT=tf.int8, DstT=tf.float32)
    return edit.add("Mul", f"{name}/weight", [wide, steps], T=tf.float32)


def _from_float16(edit: GraphEdit, layer: Layer) -> str:
    name = layer.node.name
    stored = edit.add_constant(f"{name}/weight_float16", layer.weight.astype(np.float16))
    return edit.add("Cast", f"{name}/weight", [stored], SrcT=tf.float16, DstT=tf.float32)


def _tables(edit: GraphEdit, settings: QuantizeWeights) -> list[tuple[Any, Array]]:
    """Return the lookups of rows `[rows, columns]` in a constant table, with the table."""
    found = []
    for node in edit.of_kind(*_GATHERS):
        table = edit.float_constant(node.input[0])
        axis = edit.constant(node.input[2]) if node.op == "GatherV2" else np.zeros(())
        is_by_row = axis is not None and int(axis) == 0 and attribute(node, "batch_dims").i == 0
        if table is not None and table.ndim == 2 and is_by_row and _is_large(table, settings):
            found.append((node, table))
    return found


def _quantize_table(edit: GraphEdit, node: Any, table: Array, settings: QuantizeWeights) -> None:
    """Look rows up in the narrow table; the node's own name stays with the float rows."""
    name, is_int8 = node.name, settings.dtype == "int8"
    scale = scale_of(table, (1,))
    narrow = to_int8(table, scale) if is_int8 else table.astype(np.float16)
    rows = edit.copy(node, f"{name}/rows")
    edit.nodes[rows].input[0] = edit.add_constant(f"{name}/table_{narrow.dtype}", narrow)
    dtype = tf.as_dtype(narrow.dtype)
    edit.nodes[rows].attr["Tparams"].type = dtype.as_datatype_enum
    if not is_int8:
        edit.turn(node, "Cast", [rows], SrcT=dtype, DstT=tf.float32)
        return
    wide = edit.add("Cast", f"{name}/rows_wide", [rows], SrcT=dtype, DstT=tf.float32)
    steps = edit.add_constant(f"{name}/table_scale", scale.reshape(-1))
    edit.turn(node, "Mul", [wide, steps], T=tf.float32)
