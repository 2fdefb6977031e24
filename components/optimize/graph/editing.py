"""A signature's graph while a pass rewrites it: looked up by name, edited in place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2

from components.optimize.graph.graphs import SignatureGraph, node_of

Array = npt.NDArray[Any]

_FLOAT32 = tf.float32.as_datatype_enum


class GraphEdit:
    """A private copy of a graph. Rewrites keep the name of any node that is an output."""

    def __init__(self, signature: SignatureGraph) -> None:
        self._signature = signature
        self.graph = graph_pb2.GraphDef()
        self.graph.CopyFrom(signature.graph_def)
        self.nodes: dict[str, Any] = {node.name: node for node in self.graph.node}
        self.outputs = frozenset(node_of(tensor) for tensor in signature.fetches)

    # --- looking --------------------------------------------------------------------------------

    def readers(self) -> dict[str, list[Any]]:
        """Return by node name the nodes that read any of its outputs, or wait for it.

        Only what outputs depend on counts: a rewrite leaves nodes behind that nobody needs.
        """
        readers: dict[str, list[Any]] = {name: [] for name in self.nodes}
        waiting, seen = list(self.outputs), set(self.outputs)
        while waiting:
            node = self.nodes[waiting.pop()]
            for source in map(node_of, node.input):
                readers[source].append(node)
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return readers

    def in_bodies(self, *kinds: str) -> Iterator[str]:
        """Yield the names of the nodes of some kinds in functions: loops, branches."""
        for function in self.graph.library.function:
            nodes = (node for node in function.node_def if node.op in kinds)
            yield from (f"{function.signature.name}/{node.name}" for node in nodes)

    def last_sizes(self) -> dict[str, int | None]:
        """Return the length of the last axis of each node's first output, where it is known."""
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self.graph, name="")
        shapes = {one.name: one.outputs[0].shape for one in graph.get_operations() if one.outputs}
        return {name: shape[-1] if shape.rank else None for name, shape in shapes.items()}

    def of_kind(self, *kinds: str) -> Iterator[Any]:
        """Yield the nodes of some kinds; new ones may be added meanwhile."""
        yield from [node for node in self.graph.node if node.op in kinds]

    def source(self, reference: str) -> Any:
        """Return the node behind an input, looking through Identity."""
        node = self.nodes[node_of(reference)]
        while node.op == "Identity":
            node = self.nodes[node_of(node.input[0])]
        return node

    def constant(self, reference: str) -> Array | None:
        """Return the value of an input if it is a constant."""
        node = self.source(reference)
        return value_of(node) if node.op == "Const" else None

    def float_constant(self, reference: str) -> Array | None:
        """Return the value of an input if it is a float32 constant."""
        node = self.source(reference)
        is_float = node.op == "Const" and attribute(node, "dtype").type == _FLOAT32
        return value_of(node) if is_float else None

    # --- changing -------------------------------------------------------------------------------

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return its name, `name` or, if that is taken, one like it.

        Attributes are DataTypes, bools, ints, floats or arrays (as `value`).
        """
        unique, number = name, 0
        while unique in self.nodes:
            number += 1
            unique = f"{name}_{number}"
        node = self.graph.node.add(name=unique, op=op, input=list(inputs))
        for key, value in attributes.items():
            _set_attribute(node.attr[key], value)
        self.nodes[unique] = node
        return unique

    def add_constant(self, name: str, value: "Array | np.generic[Any]") -> str:
        """Add a constant and return its name."""
        return self.add("Const", name, (), dtype=tf.as_dtype(value.dtype), value=value)

    def copy(self, node: Any, name: str) -> str:
        """Add the same node once more under another name, and return that."""
        unique = self.add(node.op, name, node.input)
        for key in node.attr:
            self.nodes[unique].attr[key].CopyFrom(node.attr[key])
        return unique

    def turn(self, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Make another operation of a node; its name, and so its readers, stay."""
        node.op = op
        node.ClearField("attr")
        del node.input[:]
        node.input.extend(inputs)
        for key, value in attributes.items():
            _set_attribute(node.attr[key], value)

    def set_value(self, node: Any, value: Array) -> None:
        """Give a Const node another value."""
        self.turn(node, "Const", (), dtype=tf.as_dtype(value.dtype), value=value)

    def turn_to_identity(self, node: Any, reference: str) -> None:
        """Make a node pass on a float32 tensor."""
        self.turn(node, "Identity", [reference], T=tf.float32)

    def result(self) -> SignatureGraph:
        """Return the signature over the edited graph."""
        return self._signature.with_graph(self.graph)


def value_of(node: Any) -> Array:
    """Return the value of a Const node."""
    value: Array = tf.make_ndarray(node.attr["value"].tensor)
    return value


def tensor_name(reference: str) -> str:
    """Return a node's input in the long form: `x:0` of `x`."""
    return reference if ":" in reference else f"{reference}:0"


def attribute(node: Any, key: str) -> Any:
    """Return an attribute, or an empty one. (`node.attr[key]` would add it to the node.)"""
    return node.attr[key] if key in node.attr else attr_value_pb2.AttrValue()


def data_inputs(node: Any) -> list[str]:
    """Return the inputs of a node that are not control edges."""
    return [reference for reference in node.input if not reference.startswith("^")]


def _set_attribute(place: Any, value: Any) -> None:
    if isinstance(value, tf.DType):
        place.type = value.as_datatype_enum
    elif isinstance(value, bool):
        place.b = value
    elif isinstance(value, int):
        place.i = value
    elif isinstance(value, float):
        place.f = value
    elif isinstance(value, bytes):
        place.s = value
    else:
        place.tensor.CopyFrom(tf.make_tensor_proto(np.asarray(value)))
