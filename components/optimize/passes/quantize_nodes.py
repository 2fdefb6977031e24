"""Linear layers compute in 8-bit integers: activations get a range of 256 steps, weights int8.

TensorFlow's own integer kernels exist on some CPUs only, and its portable ones are a hundred times
slower than float (docs/optimizer.md has the figures). So the integers are written as quantise and
dequantise around each layer (FakeQuantWithMinMaxVars and Cast · Mul): TensorFlow computes the same
numbers in float, and OpenVINO and LiteRT run such a layer in int8.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.layers import KINDS, layer_at, layers_of, not_layers, reads_quantized
from components.optimize.passes.change import Change, Findings, change_of
from components.optimize.passes.quantize_weights import quantize_layer
from components.optimize.passes.strip_unused_nodes import strip

FAKE_QUANT = "FakeQuantWithMinMaxVars"
_BITS = 8


def apply(model: GraphModel, float_layers: Collection[str] = ()) -> Change:
    """Quantise the data that linear layers read, and their weights, except `float_layers`.

    The range of a tensor is computed at each call, from the current batch; it always spans 0.
    `freeze_requantization_ranges` puts calibrated constants in its place.
    """
    findings = Findings()
    changed = model.rewritten(lambda one: _quantize(one, float_layers, findings))
    return change_of(model, changed, findings)


def quantizable(model: GraphModel) -> tuple[str, ...]:
    """Return the names of the layers that `apply` would change, in graph order."""
    names: dict[str, None] = {}
    for signature in model.signatures.values():
        edit = GraphEdit(signature)
        names |= dict.fromkeys(node.name for node in _layers(edit))
    return tuple(names)


def _layers(edit: GraphEdit) -> list[Any]:
    """Return the nodes of linear layers whose weight is constant, float or int8."""
    return [
        node
        for node in edit.of_kind(*KINDS)
        if layer_at(edit, node) is not None or reads_quantized(edit, node)
    ]


def _quantize(
    signature: SignatureGraph, float_layers: Collection[str], findings: Findings
) -> SignatureGraph:
    edit = GraphEdit(signature)
    findings.refused.update(not_layers(edit))
    wanted = [node for node in _layers(edit) if node.name not in float_layers]
    names = {node.name for node in wanted}
    for layer in [one for one in layers_of(edit) if one.node.name in names]:
        quantize_layer(edit, layer)
    quantized: dict[str, str] = {}
    for node in wanted:
        findings.match(node.name)
        index = 2 if node.op == "Conv2DBackpropInput" else 0
        reference = node.input[index]
        if reference not in quantized:
            quantized[reference] = _fake_quant(edit, node.name, reference)
        node.input[index] = quantized[reference]
    return strip(edit.result())


def _fake_quant(edit: GraphEdit, name: str, reference: str) -> str:
    """Add the nodes that find a tensor's range and round it to 256 steps of that range."""
    zero = edit.add_constant(f"{name}/data_zero", np.float32(0.0))
    axes = _all_axes(edit, name, reference)
    bounds = [
        edit.add(
            bound,
            f"{name}/data_{bound.lower()}",
            [
                edit.add(
                    reduce,
                    f"{name}/data_{reduce.lower()}",
                    [reference, axes],
                    T=tf.float32,
                    Tidx=tf.int32,
                    keep_dims=False,
                ),
                zero,
            ],
            T=tf.float32,
        )
        for reduce, bound in (("Min", "Minimum"), ("Max", "Maximum"))
    ]
    return edit.add(
        FAKE_QUANT, f"{name}/data", [reference, *bounds], num_bits=_BITS, narrow_range=False
    )


def _all_axes(edit: GraphEdit, name: str, reference: str) -> str:
    """Add what lists all axes of a tensor: 0 to its rank."""
    rank = edit.add("Rank", f"{name}/data_rank", [reference], T=tf.float32)
    start = edit.add_constant(f"{name}/data_first_axis", np.int32(0))
    step = edit.add_constant(f"{name}/data_axis_step", np.int32(1))
    return edit.add("Range", f"{name}/data_axes", [start, rank, step], Tidx=tf.int32)
