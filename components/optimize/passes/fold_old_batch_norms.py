"""Fused batch normalisation nodes go into the weights of the layer in front of them."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.editing import Array, GraphEdit, attribute
from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.graph.layers import KINDS, channel_vector, layer_at
from components.optimize.passes.change import Change, Findings, change_of
from components.optimize.passes.fold_batch_norms import fold

_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_GLOBAL = "BatchNormWithGlobalNormalization"
_BETWEEN = ("BiasAdd", "AddV2", "Add", "Identity", "MaxPool")


def apply(model: GraphModel) -> Change:
    """Fold FusedBatchNorm (V1 to V3, at inference) and BatchNormWithGlobalNormalization.

    One with no linear layer beside it stays whole: as one node it is faster than in two.
    """
    findings = Findings()
    return change_of(model, model.rewritten(lambda one: _fold(one, findings)), findings)


def _fold(signature: SignatureGraph, findings: Findings) -> SignatureGraph:
    edit = GraphEdit(signature)
    everybody = edit.readers()
    readers = {name: [r for r in who if r.op != "Shape"] for name, who in everybody.items()}
    is_changed = False
    for node in edit.of_kind(*_FUSED, _GLOBAL):
        if reason := _why_not(edit, node, readers):
            findings.refuse(node.name, reason)
        elif (norm := _factor_and_offset(edit, node)) is not None:
            _write_out(edit, node, *norm)
            is_changed = True
    return fold(edit.result(), findings) if is_changed else signature


def _why_not(edit: GraphEdit, node: Any, readers: dict[str, list[Any]]) -> str:
    """Say why a norm stays as it is; empty if it can be folded."""
    if attribute(node, "is_training").b:
        return "it computes its statistics from each batch"
    if _factor_and_offset(edit, node) is None:
        return "its statistics are not constants by channel"
    uses = {ref for r in readers[node.name] for ref in r.input if node_of(ref) == node.name}
    if not uses <= {node.name, f"{node.name}:0"}:
        return "its statistics are answered too"
    is_beside = _reads_layer(edit, node) or _feeds_layer(edit, node, readers)
    return "" if is_beside else "no linear layer beside it takes it up"


def _reads_layer(edit: GraphEdit, node: Any) -> bool:
    source = edit.nodes[node_of(node.input[0])]
    while source.op in _BETWEEN:
        source = edit.nodes[node_of(source.input[0])]
    return source.op in KINDS and layer_at(edit, source) is not None


def _feeds_layer(edit: GraphEdit, node: Any, readers: dict[str, list[Any]]) -> bool:
    """Tell whether its only reader is a layer that sees an offset alike everywhere."""
    if len(readers[node.name]) != 1 or node.name in edit.outputs:
        return False
    (reader,) = readers[node.name]
    layer = layer_at(edit, reader)
    is_data = layer is not None and node_of(reader.input[layer.data_index]) == node.name
    return layer is not None and is_data and layer.answer_to(np.zeros(1, np.float32)) is not None


def _factor_and_offset(edit: GraphEdit, node: Any) -> tuple[Array, Array] | None:
    """Return c and b of the `x * c + b` that the node computes; None if they are not constant."""
    values = [edit.float_constant(reference) for reference in node.input[1:5]]
    if any(value is None for value in values) or attribute(node, "is_training").b:
        return None
    if node.op == _GLOBAL:
        mean, variance, offset, scale = (_wide(value) for value in values)
        epsilon = attribute(node, "variance_epsilon").f
        if not attribute(node, "scale_after_normalization").b:
            scale = np.ones_like(scale)
    else:
        if attribute(node, "data_format").s not in (b"", b"NHWC"):
            return None
        scale, offset, mean, variance = (_wide(value) for value in values)
        epsilon = attribute(node, "epsilon").f
    factor = scale / np.sqrt(variance + epsilon)
    if channel_vector(factor, factor.size) is None:
        return None
    return factor.astype(np.float32), (offset - mean * factor).astype(np.float32)


def _wide(value: Array | None) -> Array:
    return np.asarray(value, np.float64)


def _write_out(edit: GraphEdit, node: Any, factor: Array, offset: Array) -> None:
    """Turn the node into a multiplication and an addition."""
    reference = node.input[0]
    factor_name = edit.add_constant(f"{node.name}/factor", factor)
    offset_name = edit.add_constant(f"{node.name}/offset", offset)
    product = edit.add("Mul", f"{node.name}/scaled", [reference, factor_name], T=tf.float32)
    edit.turn(node, "AddV2", [product, offset_name], T=tf.float32)
