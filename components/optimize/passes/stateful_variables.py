"""Variables that a SavedModel's own signatures write to: no constant can stand for one."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from components.optimize.graph.editing import data_inputs
from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.passes.strip_unused_nodes import called

_WRITES = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparse", "ResourceStridedSlice")


def live_variables(model: GraphModel) -> list[str]:
    """Return the names of variables that answers depend on and that any signature writes to.

    So a signature `train` or `put` changes what another one answers next time. A counter is none:
    outputs wait for it, but none of their numbers comes from it.
    """
    signatures = model.signatures.values()
    written = {id(variable) for signature in signatures for variable in _written(signature)}
    read = [variable for signature in signatures for variable in _read(signature)]
    return sorted({variable.name for variable in read if id(variable) in written})


def _written(signature: SignatureGraph) -> Iterator[tf.Variable]:
    """Yield the variables of nodes that write, or that call what writes."""
    graph = signature.graph_def
    nodes, variables = {node.name: node for node in graph.node}, _variables(signature)
    bodies = {function.signature.name: function for function in graph.library.function}
    for node in graph.node:
        inner = [n for name in called([node], bodies) for n in bodies[name].node_def]
        if any(one.op.startswith(_WRITES) for one in (node, *inner)):
            names = (_origin(nodes, reference) for reference in data_inputs(node))
            yield from (variables[name] for name in names if name in variables)


def _read(signature: SignatureGraph) -> Iterator[tf.Variable]:
    """Yield the variables that outputs depend on by data."""
    nodes, variables = {n.name: n for n in signature.graph_def.node}, _variables(signature)
    waiting, seen = [node_of(tensor) for tensor in signature.fetches], set[str]()
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += [node_of(reference) for reference in data_inputs(nodes[name])]
    yield from (variables[name] for name in seen if name in variables)


def _variables(signature: SignatureGraph) -> dict[str, tf.Variable]:
    captures = signature.captures.items()
    return {node_of(name): one for name, one in captures if isinstance(one, tf.Variable)}


def _origin(nodes: dict[str, Any], reference: str) -> str:
    """Return the name of the node behind an input, looking through Identity."""
    name = node_of(reference)
    while nodes[name].op == "Identity":
        name = node_of(nodes[name].input[0])
    return name
