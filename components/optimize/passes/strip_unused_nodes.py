"""Nodes and functions that no output needs are dropped."""

from collections.abc import Iterable, Mapping
from typing import Any

from tensorflow.core.framework import graph_pb2

from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.passes.change import Change, change_of


def apply(model: GraphModel) -> Change:
    """Keep what the outputs depend on, and the inputs, also those that nothing reads.

    What hangs on by a control edge only (an Assert of the training code) counts as needed;
    `remove_nodes` is the pass that takes it away.
    """
    return change_of(model, model.rewritten(strip))


def strip(signature: SignatureGraph) -> SignatureGraph:
    """Return the signature without unneeded nodes and functions."""
    graph = signature.graph_def
    needed = _needed(graph, signature.fetches)
    needed |= {node_of(tensor) for tensor, _ in signature.inputs.values()}
    stripped = graph_pb2.GraphDef(versions=graph.versions)
    stripped.node.extend(node for node in graph.node if node.name in needed)
    bodies = {function.signature.name: function for function in graph.library.function}
    functions = called(stripped.node, bodies)
    stripped.library.function.extend(bodies[name] for name in sorted(functions))
    return signature.with_graph(stripped)


def _needed(graph: Any, outputs: Iterable[str]) -> set[str]:
    """Return the names of the nodes that outputs depend on, by data or by control."""
    inputs = {node.name: node.input for node in graph.node}
    waiting, needed = [node_of(tensor) for tensor in outputs], set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(node_of(reference) for reference in inputs[name])
    return needed


def called(nodes: Iterable[Any], bodies: Mapping[str, Any]) -> set[str]:
    """Return the names of functions that nodes call, directly or through others."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        named = {node.op} | {f.name for a in node.attr.values() for f in [a.func, *a.list.func]}
        for name in (named & bodies.keys()) - found:
            found.add(name)
            waiting.extend(bodies[name].node_def)
    return found
