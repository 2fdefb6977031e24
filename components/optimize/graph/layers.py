"""The linear layers of a graph: which input is the weight, and where its channels are.

A layer is linear in its data input for fixed weights, so what scales its output by channel can be
moved into the weights; and each output channel can have its own scale in int8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.optimize.graph.editing import Array, GraphEdit, attribute

# By kind: index of the data input, index of the weight input.
_INPUTS = {
    "Conv2D": (0, 1),
    "Conv3D": (0, 1),
    "DepthwiseConv2dNative": (0, 1),
    "Conv2DBackpropInput": (2, 1),
    "MatMul": (0, 1),
}
KINDS = tuple(_INPUTS)


@dataclass(frozen=True)
class Layer:
    """A linear layer with a constant float32 weight.

    Attributes:
        node: Its NodeDef.
        weight: Convolution `[height, width, in, out]` (3-D: depth first), depthwise
            `[height, width, in, multiplier]`, transposed `[height, width, out, in]`, matrix
            `[in, out]`, or `[out, in]` with `transpose_b`.
    """

    node: Any
    weight: Array

    @property
    def data_index(self) -> int:
        """Which input is the data."""
        return _INPUTS[self.node.op][0]

    @property
    def weight_index(self) -> int:
        """Which input is the weight."""
        return _INPUTS[self.node.op][1]

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The weight's axes that make up the output channels."""
        last = self.weight.ndim - 1
        match self.node.op:
            case "DepthwiseConv2dNative":
                return (last - 1, last)
            case "Conv2DBackpropInput":
                return (last - 1,)
            case "MatMul":
                return (0,) if attribute(self.node, "transpose_b").b else (1,)
            case _:
                return (last,)

    @property
    def input_axis(self) -> int:
        """The weight's axis of input channels."""
        last = self.weight.ndim - 1
        match self.node.op:
            case "Conv2DBackpropInput":
                return last
            case "MatMul":
                return 1 if attribute(self.node, "transpose_b").b else 0
            case _:
                return last - 1

    @property
    def output_channels(self) -> int:
        """How many output channels there are."""
        return int(np.prod([self.weight.shape[axis] for axis in self.output_axes]))

    def scaled_by_output(self, factor: Array) -> Array:
        """Return the weight for an output times `factor`, `[output channels]` or one value."""
        shape = [1] * self.weight.ndim
        if factor.size > 1:
            for axis in self.output_axes:
                shape[axis] = self.weight.shape[axis]
        return _product(self.weight, factor.reshape(shape))

    def scaled_by_input(self, factor: Array) -> Array:
        """Return the weight for an input times `factor`, `[input channels]` or one value."""
        shape = [1] * self.weight.ndim
        if factor.size > 1:
            shape[self.input_axis] = self.weight.shape[self.input_axis]
        return _product(self.weight, factor.reshape(shape))

    def answer_to(self, offset: Array) -> Array | None:
        """Return what the layer makes of an input that is `offset` everywhere, `[out]`.

        None where that depends on the place: zero padding sees no offset at the rim, and not all of
        a transposed convolution's weights reach each place of its output.
        """
        if not self._is_alike_everywhere():
            return None
        inputs = self.weight.shape[self.input_axis]
        wide = np.broadcast_to(offset.astype(np.float64).ravel(), (inputs,))
        shape = [inputs if axis == self.input_axis else 1 for axis in range(self.weight.ndim)]
        summed = self.weight.astype(np.float64) * wide.reshape(shape)
        others = tuple(axis for axis in range(summed.ndim) if axis not in self.output_axes)
        answer: Array = summed.sum(axis=others).reshape(-1).astype(np.float32)
        return answer

    def _is_alike_everywhere(self) -> bool:
        """Tell whether each place of the output sees the same weights."""
        if self.node.op == "MatMul":
            return True
        is_transposed = self.node.op == "Conv2DBackpropInput"
        if all(size == 1 for size in self.weight.shape[:-2]):  # needs no padding
            padding = attribute(self.node, "padding").s
            is_dense = set(attribute(self.node, "strides").list.i) == {1}
            return padding != b"EXPLICIT" and (is_dense or not is_transposed)
        return not is_transposed and bool(attribute(self.node, "padding").s == b"VALID")


def layer_at(edit: GraphEdit, node: Any) -> Layer | None:
    """Return the layer that a node is, or None: another kind, or its weight is not a constant."""
    if node.op not in KINDS or attribute(node, "transpose_a").b:
        return None
    if attribute(node, "data_format").s not in (b"", b"NHWC", b"NDHWC"):
        return None
    weight = edit.float_constant(node.input[_INPUTS[node.op][1]])
    return Layer(node, weight) if weight is not None and weight.ndim > 1 else None


def not_layers(edit: GraphEdit) -> Iterator[tuple[str, str]]:
    """Yield the nodes that compute as layers do and are not a `Layer`, with the reason."""
    for node in edit.of_kind(*KINDS):
        if reason := _why_not(edit, node):
            yield node.name, reason
    for name in edit.in_bodies(*KINDS):
        yield name, "inside a loop or a branch"


def _why_not(edit: GraphEdit, node: Any) -> str:
    if layer_at(edit, node) is not None or reads_quantized(edit, node):
        return ""
    if attribute(node, "transpose_a").b:
        return "the data is transposed"
    if attribute(node, "data_format").s not in (b"", b"NHWC", b"NDHWC"):
        return "channels come first"
    source = edit.source(node.input[_INPUTS[node.op][1]])
    if source.op in ("ReadVariableOp", "Placeholder"):
        return "the weight is a variable: freeze_graph comes first"
    if source.op == "Const":
        return "the weight is not float32"
    return "the weight is computed"


def layers_of(edit: GraphEdit) -> Iterator[Layer]:
    """Yield the linear layers of a graph in its order."""
    for node in edit.of_kind(*KINDS):
        if (layer := layer_at(edit, node)) is not None:
            yield layer


def channel_vector(value: Array, channels: int) -> Array | None:
    """Return a constant that broadcasts over the last axis only, flat: `[channels]` or `[1]`."""
    is_vector = value.size == 1 or (value.size == channels == value.shape[-1])
    return value.reshape(-1) if is_vector else None


def _product(weight: Array, factor: Array) -> Array:
    product: Array = (weight.astype(np.float64) * factor).astype(np.float32)
    return product


def reads_quantized(edit: GraphEdit, node: Any) -> bool:
    """Tell whether a layer's weight is a constant in int8 that is turned to float before it."""
    source = edit.source(node.input[_INPUTS[node.op][1]])
    if source.op != "Mul":
        return False
    wide = edit.source(source.input[0])
    return wide.op == "Cast" and edit.constant(wide.input[0]) is not None


def data_tensors(edit: GraphEdit) -> dict[str, str]:
    """Return the tensors that linear layers read, `node:0`, each with the first such layer."""
    tensors: dict[str, str] = {}
    for layer in layers_of(edit):
        reference = layer.node.input[layer.data_index]
        tensors.setdefault(reference if ":" in reference else f"{reference}:0", layer.node.name)
    return tensors
