"""Batch normalisation at inference, `x * c + b`, goes into the weights of the layer beside it."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.editing import Array, GraphEdit, data_inputs
from components.optimize.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.layers import Layer, channel_vector, layer_at, layers_of
from components.optimize.passes.change import Change, change_of
from components.optimize.passes.remove_nodes import bypass

_ADDS = ("BiasAdd", "AddV2", "Add")


def apply(model: GraphModel) -> Change:
    """Fold multiplications and additions by channel into Conv2D, DepthwiseConv2dNative,
    Conv2DBackpropInput, Conv3D and MatMul.

    Behind the layer (with or without a bias, also behind a MaxPool where no factor is below 0:
    max(c x) = c max(x)), or before it (an addition only where no zero padding would see it).
    Needs constants: run `freeze_graph` and `fold_constants` first.
    """
    return change_of(model, model.rewritten(fold))


def fold(signature: SignatureGraph) -> SignatureGraph:
    """Return the signature with every foldable factor and offset in the weights."""
    edit = GraphEdit(signature)
    _make_plain(edit)
    is_changed = False
    while _fold_one(edit):
        is_changed = True
    return bypass(edit.result()) if is_changed else signature


def _make_plain(edit: GraphEdit) -> None:
    """Write x - c as x + (-c), and x / c as x * (1 / c)."""
    for node in edit.of_kind("Sub", "RealDiv"):
        left, right = data_inputs(node)[:2]
        value = edit.float_constant(right)
        if value is None or edit.float_constant(left) is not None:
            continue
        if node.op == "Sub":
            name = edit.add_constant(f"{node.name}/negated", -value)
            edit.turn(node, "AddV2", [left, name], T=tf.float32)
        elif np.all(value != 0):
            name = edit.add_constant(f"{node.name}/inverse", (1 / value).astype(np.float32))
            edit.turn(node, "Mul", [left, name], T=tf.float32)


def _fold_one(edit: GraphEdit) -> bool:
    """Fold the first thing that can be; tell whether there was one."""
    readers = edit.readers()
    for node in edit.of_kind("Mul"):
        if _fold_factor_behind(edit, node, readers):
            return True
    for node in edit.of_kind(*_ADDS):
        if _join_offsets(edit, node, readers):
            return True
    return any(_fold_before(edit, layer, readers) for layer in layers_of(edit))


def _fold_factor_behind(edit: GraphEdit, node: Any, readers: dict[str, list[Any]]) -> bool:
    """Fold Mul([MaxPool](layer [+ bias]), factor)."""
    if (found := _with_constant(edit, node)) is None:
        return False
    reference, factor = found
    source = _sole(edit, reference, readers)
    if source is not None and source.op == "MaxPool":
        source = _sole(edit, source.input[0], readers) if np.all(factor >= 0) else None
    if source is None:
        return False
    offset_node, offset = None, None
    if source.op in _ADDS and (inner := _with_constant(edit, source)) is not None:
        offset_node, offset = source, inner[1]
        source = _sole(edit, inner[0], readers)
    layer = layer_at(edit, source) if source is not None else None
    vector = channel_vector(factor, layer.output_channels) if layer is not None else None
    if layer is None or vector is None or factor.ndim > _rank(layer):
        return False
    if offset_node is not None and offset is not None:
        if channel_vector(offset, layer.output_channels) is None:
            return False
        _set_constant(edit, offset_node, offset.reshape(-1) * vector)
    _set_weight(edit, layer, layer.scaled_by_output(vector))
    edit.turn_to_identity(node, reference)
    return True


def _join_offsets(edit: GraphEdit, node: Any, readers: dict[str, list[Any]]) -> bool:
    """Make one addition of (layer + a) + b."""
    if (outer := _with_constant(edit, node)) is None:
        return False
    source = _sole(edit, outer[0], readers)
    if source is None or source.op not in _ADDS:
        return False
    inner = _with_constant(edit, source)
    layer = layer_at(edit, edit.source(inner[0])) if inner is not None else None
    if inner is None or layer is None:
        return False
    vectors = [channel_vector(one, layer.output_channels) for one in (inner[1], outer[1])]
    if vectors[0] is None or vectors[1] is None:
        return False
    edit.turn_to_identity(source, inner[0])
    _set_constant(edit, node, vectors[0] + vectors[1])
    return True


def _fold_before(edit: GraphEdit, layer: Layer, readers: dict[str, list[Any]]) -> bool:
    """Fold layer(x * factor), and layer(x * factor + offset) where no padding is in the way."""
    source = _sole(edit, layer.node.input[layer.data_index], readers)
    if source is None or (found := _with_constant(edit, source)) is None:
        return False
    reference, value = found
    vector = channel_vector(value, layer.weight.shape[layer.input_axis])
    if vector is None or value.ndim > _rank(layer):
        return False
    if source.op == "Mul":
        _set_weight(edit, layer, layer.scaled_by_input(vector))
        layer.node.input[layer.data_index] = reference
        return True
    behind = _sole(edit, reference, readers)
    is_norm = source.op in _ADDS and behind is not None and behind.op == "Mul"
    answer = layer.answer_to(vector) if is_norm and layer.node.name not in edit.outputs else None
    if answer is None:
        return False
    layer.node.input[layer.data_index] = reference
    _add_offset_behind(edit, layer, answer, readers[layer.node.name])
    return True


def _add_offset_behind(edit: GraphEdit, layer: Layer, offset: Array, readers: list[Any]) -> None:
    name = layer.node.name
    constant = edit.add_constant(f"{name}/offset", offset)
    added = edit.add("BiasAdd", f"{name}/with_offset", [name, constant], T=tf.float32)
    for reader in readers:
        for index, reference in enumerate(reader.input):
            if reference in (name, f"{name}:0"):
                reader.input[index] = added


def _with_constant(edit: GraphEdit, node: Any) -> tuple[str, Array] | None:
    """Return the other input and the value of a node that has one float32 constant input."""
    inputs = data_inputs(node)
    if len(inputs) != 2:
        return None
    values = [edit.float_constant(reference) for reference in inputs]
    for mine, other in ((1, 0), (0, 1)):
        value = values[mine]
        if value is not None and values[other] is None:
            return inputs[other], value
    return None


def _sole(edit: GraphEdit, reference: str, readers: dict[str, list[Any]]) -> Any | None:
    """Return the node behind an input if nobody else reads it, nor an Identity in between."""
    node = edit.nodes[node_of(reference)]
    while len(readers[node.name]) == 1 and node.name not in edit.outputs:
        if node.op != "Identity":
            return node
        node = edit.nodes[node_of(node.input[0])]
    return None


def _set_weight(edit: GraphEdit, layer: Layer, weight: Array) -> None:
    layer.node.input[layer.weight_index] = edit.add_constant(f"{layer.node.name}/folded", weight)


def _set_constant(edit: GraphEdit, node: Any, value: Array) -> None:
    """Replace the constant input of an addition; it becomes a plain addition of a vector."""
    reference, _ = _with_constant(edit, node) or ("", value)
    name = edit.add_constant(f"{node.name}/folded", value.astype(np.float32))
    edit.turn(node, "AddV2" if value.size == 1 else "BiasAdd", [reference, name], T=tf.float32)


def _rank(layer: Layer) -> int:
    """Return the rank of the layer's data."""
    return layer.weight.ndim
