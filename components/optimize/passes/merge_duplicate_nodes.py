"""Nodes that compute the same from the same become one."""

from tensorflow.core.framework import graph_pb2, node_def_pb2

from components.models.tensorflow_internals import op_def_registry
from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.passes.change import Change, change_of
from components.optimize.passes.strip_unused_nodes import strip


def apply(model: GraphModel) -> Change:
    """Merge nodes of one kind with equal attributes and inputs, constants of equal value too.

    What has a state (random numbers, resources, iterators) stays as it is. Grappler's own pass
    leaves large constants and nodes with control edges alone, so this is done here.
    """
    return change_of(model, model.rewritten(_merge))


def _merge(signature: SignatureGraph) -> SignatureGraph:
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    outputs = {node_of(tensor) for tensor in signature.fetches}
    before = -1
    while (now := len(graph.node)) != before:
        before = now
        _merge_once(graph, outputs)
    return strip(signature.with_graph(graph))


def _merge_once(graph: graph_pb2.GraphDef, outputs: set[str]) -> None:
    """Let readers read the first of equal nodes; the others are removed, except outputs."""
    firsts: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    # Outputs come first, so that another node is merged into them and not the other way round.
    for node in sorted(graph.node, key=lambda node: node.name not in outputs):
        if not _is_pure(node):
            continue
        first = firsts.setdefault(_fingerprint(node), node.name)
        if first != node.name and node.name not in outputs:
            replaced[node.name] = first
    kept = [node for node in graph.node if node.name not in replaced]
    for node in kept:
        for index, reference in enumerate(node.input):
            if (name := node_of(reference)) in replaced:
                node.input[index] = reference.replace(name, replaced[name], 1)
    merged = graph_pb2.GraphDef(versions=graph.versions, library=graph.library)
    merged.node.extend(kept)
    graph.CopyFrom(merged)


def _is_pure(node: node_def_pb2.NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and not definition.is_stateful and node.op != "Placeholder"


def _fingerprint(node: node_def_pb2.NodeDef) -> bytes:
    """Return what a node computes, whatever its name; references to output 0 are written alike."""
    copy = node_def_pb2.NodeDef(op=node.op, device=node.device)
    copy.input.extend(reference.removesuffix(":0") for reference in node.input)
    for key, value in node.attr.items():
        copy.attr[key].CopyFrom(value)
    fingerprint: bytes = copy.SerializeToString(deterministic=True)
    return fingerprint
