"""Batch normalisation at inference, `x * c + b`, goes into the weights of the layer beside it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.editing import Array, GraphEdit, attribute, data_inputs
from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.graph.layers import KINDS, Layer, layer_at, not_layers
from components.optimize.passes.change import Change, Findings, change_of
from components.optimize.passes.remove_nodes import bypass

ADDS = ("BiasAdd", "AddV2", "Add")


def apply(model: GraphModel) -> Change:
    """Fold multiplications and additions by channel into Conv2D, DepthwiseConv2dNative,
    Conv2DBackpropInput, Conv3D and MatMul.

    Behind the layer (with or without a bias, also behind a MaxPool where no factor is below 0:
    max(c x) = c max(x)), or before it (an addition only where each place of the output sees it
    whole). A Reshape may lie between, if it keeps or merges the channels; who asks for the shape
    only gets it from elsewhere. Needs constants: run `freeze_graph` and `fold_constants` first.
    Layers in the bodies of loops and branches stay as they are.
    """
    findings = Findings()
    return change_of(model, model.rewritten(lambda one: fold(one, findings)), findings)


def fold(signature: SignatureGraph, findings: Findings) -> SignatureGraph:
    """Return the signature with every foldable factor and offset in the weights."""
    edit = GraphEdit(signature)
    findings.refused.update(not_layers(edit))
    _make_plain(edit)
    folding = _Folding(edit, findings, edit.last_sizes())
    is_changed = False
    while folding.fold_one():
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


@dataclass(frozen=True)
class _Path:
    """What lies between a factor or offset and the layer in front of it.

    Attributes:
        layer: The layer.
        offset: The addition of a constant on the way, and the constant; the first of several.
        is_pooled: Whether a MaxPool is on the way.
    """

    layer: Layer
    offset: tuple[Any, Array] | None = None
    is_pooled: bool = False


@dataclass
class _Folding:
    """A graph while factors and offsets move into its layers.

    Attributes:
        edit: The graph.
        findings: Told of what is folded, and of what stands beside a layer and is not.
        sizes: By node, the length of the last axis.
        readers: By node, who reads it, except those that ask only for its shape.
    """

    edit: GraphEdit
    findings: Findings
    sizes: dict[str, int | None]
    readers: dict[str, list[Any]] = field(default_factory=dict)

    def fold_one(self) -> bool:
        """Fold the first thing that can be; tell whether there was one."""
        everybody = self.edit.readers()
        self.readers = {n: [r for r in who if r.op != "Shape"] for n, who in everybody.items()}
        return (
            any(self._factor_behind(node) for node in self._needed("Mul"))
            or any(self._join_offsets(node) for node in self._needed(*ADDS))
            or any(self._before(layer) for layer in self._needed_layers())
        )

    def _needed(self, *kinds: str) -> list[Any]:
        """Return the nodes of some kinds that outputs depend on: others have no say in a weight."""
        nodes = self.edit.of_kind(*kinds)
        return [one for one in nodes if self.readers[one.name] or one.name in self.edit.outputs]

    def _needed_layers(self) -> list[Layer]:
        found = (layer_at(self.edit, node) for node in self._needed(*KINDS))
        return [layer for layer in found if layer is not None]

    # --- behind a layer -------------------------------------------------------------------------

    def _factor_behind(self, node: Any) -> bool:
        """Fold Mul([MaxPool](layer [+ bias]), factor)."""
        found = self._with_constant(node)
        path = self._path(node.name, found[0]) if found is not None else None
        if found is None or path is None:
            return False
        reference, factor = found
        vector = self._vector(factor, node.name, path.layer.output_channels)
        if vector is None:
            return self._refuse(node, "it is not one value a channel")
        if path.is_pooled and np.any(factor < 0):
            return self._refuse(node, "a factor below 0 behind a MaxPool")
        if path.offset is not None:
            bias = self._bias(path)
            if bias is None:
                return self._refuse(node, "the bias before it is not one value a channel")
            self._set_bias(path.offset[0], bias * vector)
        self._set_weight(path.layer, path.layer.scaled_by_output(vector))
        self.edit.turn_to_identity(node, reference)
        return self._match(node)

    def _join_offsets(self, node: Any) -> bool:
        """Make one addition of (layer + a) + b."""
        outer = self._with_constant(node)
        path = self._path(node.name, outer[0]) if outer is not None else None
        if outer is None or path is None or path.offset is None:
            return False
        vector, bias = self._vector(outer[1], node.name, path.layer.output_channels), None
        if vector is None or (bias := self._bias(path)) is None:
            return self._refuse(node, "it is not one value a channel")
        self._set_bias(path.offset[0], bias + vector)
        self.edit.turn_to_identity(node, outer[0])
        return self._match(node)

    def _path(self, name: str, reference: str) -> _Path | None:
        """Return the way from a node to the layer in front of it; None if there is none."""
        node, offset, is_pooled = self.edit.nodes[node_of(reference)], None, False
        others: list[Any] = []
        while True:
            if len(self.readers[node.name]) > 1 or node.name in self.edit.outputs:
                others.append(node)
            if node.op in KINDS:
                layer = layer_at(self.edit, node)
                if layer is not None and others:
                    self.findings.refuse(name, "others read the layer's output too")
                return None if layer is None or others else _Path(layer, offset, is_pooled)
            if node.op in ADDS and offset is None and (found := self._with_constant(node)):
                offset, reference = (node, found[1]), found[0]
            elif node.op in ("Identity", "Reshape", "MaxPool"):
                is_pooled, reference = is_pooled or node.op == "MaxPool", node.input[0]
            else:
                return None
            node = self.edit.nodes[node_of(reference)]

    # --- before a layer -------------------------------------------------------------------------

    def _before(self, layer: Layer) -> bool:
        """Fold layer(x * factor), and layer(x + offset) where each place sees the offset whole."""
        node = self._sole(layer.node.input[layer.data_index])
        if node is None or (found := self._with_constant(node)) is None:
            return False
        reference, value = found
        if node.op in ADDS and self._path(node.name, reference) is not None:
            return False  # the bias of another layer
        size = self.sizes.get(node_of(reference))
        if size is not None and size != self.sizes.get(node.name):
            return self._refuse(node, "it makes its data wider")
        vector = self._vector(value, node.name, layer.weight.shape[layer.input_axis])
        if vector is None:
            return self._refuse(node, "it is not one value a channel")
        if node.op == "Mul":
            self._set_weight(layer, layer.scaled_by_input(vector))
        elif (answer := layer.answer_to(vector)) is not None:
            self._add_offset_behind(layer, answer)
        else:
            return self._refuse(node, "padding or a transposed kernel sees the offset in part")
        self.edit.turn_to_identity(node, reference)
        return self._match(node)

    def _sole(self, reference: str) -> Any | None:
        """Return the factor or offset behind an input, if nobody else reads it.

        Identity and Reshape may lie between.
        """
        node, is_shared = self.edit.nodes[node_of(reference)], False
        while True:
            is_shared |= len(self.readers[node.name]) > 1 or node.name in self.edit.outputs
            if node.op not in ("Identity", "Reshape"):
                break
            node = self.edit.nodes[node_of(node.input[0])]
        found = self._with_constant(node) if node.op in ("Mul", *ADDS) else None
        if is_shared and found is not None and self._path(node.name, found[0]) is None:
            self._refuse(node, "others than the layer read it too")
        return node if found is not None and not is_shared else None

    def _add_offset_behind(self, layer: Layer, offset: Array) -> None:
        """Give the layer another name and its own to the sum, so that all readers read that."""
        name, copy = layer.node.name, self.edit.copy(layer.node, f"{layer.node.name}/linear")
        constant = self.edit.add_constant(f"{name}/offset", offset)
        self.edit.turn(layer.node, "BiasAdd", [copy, constant], T=tf.float32)
        self.sizes[copy] = self.sizes.get(name)

    # --- both -----------------------------------------------------------------------------------

    def _with_constant(self, node: Any) -> tuple[str, Array] | None:
        """Return the other input and the value of a node that has one float32 constant input."""
        inputs = data_inputs(node)
        if len(inputs) != 2 or attribute(node, "data_format").s == b"NCHW":
            return None
        values = [self.edit.float_constant(reference) for reference in inputs]
        for mine, other in ((1, 0), (0, 1)):
            value = values[mine]
            if value is not None and values[other] is None:
                return inputs[other], value
        return None

    def _vector(self, value: Array, name: str, channels: int) -> Array | None:
        """Return a constant at a node as it looks at the layer: `[channels]` or one value.

        A Reshape between may have split or merged channels; in memory they repeat in turn.
        """
        if value.size == 1:
            return value.reshape(-1) if value.ndim < 2 else None
        is_vector = value.size == value.shape[-1] == (self.sizes.get(name) or value.size)
        if not is_vector or channels % value.size:
            return None
        return np.tile(value.reshape(-1), channels // value.size)

    def _set_weight(self, layer: Layer, weight: Array) -> None:
        name = self.edit.add_constant(f"{layer.node.name}/folded", weight)
        layer.node.input[layer.weight_index] = name

    def _bias(self, path: _Path) -> Array | None:
        """Return the offset on a path, `[channels]` or one value; None if it has other channels."""
        if path.offset is None:
            return None
        (node, value), channels = path.offset, path.layer.output_channels
        is_alike = self.sizes.get(node.name) in (None, channels)
        return self._vector(value, node.name, channels) if is_alike else None

    def _set_bias(self, node: Any, value: Array) -> None:
        """Replace the constant of an addition, which becomes a plain addition of a vector."""
        reference, _ = self._with_constant(node) or ("", value)
        name = self.edit.add_constant(f"{node.name}/folded", value.astype(np.float32))
        kind = "AddV2" if value.size == 1 else "BiasAdd"
        self.edit.turn(node, kind, [reference, name], T=tf.float32)

    def _match(self, node: Any) -> bool:
        self.findings.match(node.name)
        return True

    def _refuse(self, node: Any, reason: str) -> bool:
        self.findings.refuse(node.name, reason)
        return False
