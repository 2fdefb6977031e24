"""Nodes that only training or debugging wanted are taken out; what they passed on flows by."""

from typing import Any

from tensorflow.core.framework import graph_pb2

from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.passes.change import Change, change_of
from components.optimize.passes.strip_unused_nodes import strip

# Pass their first input on unchanged.
PASSING = frozenset({"Identity", "CheckNumerics", "StopGradient", "PreventGradient", "Snapshot"})
# Answer nothing that a prediction uses; others wait for them, by a control edge at most.
SIDE_EFFECTS = frozenset(
    {
        "Assert",
        "Print",
        "PrintV2",
        "SaveV2",
        "RestoreV2",
        "MergeV2Checkpoints",
        "SummaryWriter",
        "CreateSummaryFileWriter",
        "FlushSummaryWriter",
        "CloseSummaryWriter",
        "WriteScalarSummary",
        "WriteHistogramSummary",
        "WriteImageSummary",
        "WriteAudioSummary",
        "WriteGraphSummary",
        "WriteRawProtoSummary",
        "WriteSummary",
    }
)
_ALWAYS_THERE = frozenset({"Placeholder", "Const"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_HARMLESS = SIDE_EFFECTS | {"Const", "Identity", "NoOp", "Placeholder"}


def apply(model: GraphModel) -> Change:
    """Take out pass-through nodes, checks, summaries and checkpoint nodes.

    Dropout needs no separate case: traced for serving it is an Identity. One that really drops
    (random numbers in a serving graph) is part of what the model answers and stays.
    """
    return change_of(model, model.rewritten(remove))


def remove(signature: SignatureGraph) -> SignatureGraph:
    """Return the signature without nodes that only pass on, check or report."""
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    outputs = {node_of(tensor) for tensor in signature.fetches}
    before = b""
    while (now := graph.SerializeToString(deterministic=True)) != before:
        before = now
        _bypass(graph, outputs)  # shows checks behind an Identity
        _cut(graph, SIDE_EFFECTS)  # frees an Identity that only waited for a check
    return strip(signature.with_graph(graph))


def without(signature: SignatureGraph, kinds: frozenset[str]) -> SignatureGraph:
    """Return the signature without nodes of some kinds that outputs only wait for."""
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    _cut(graph, kinds)
    return strip(signature.with_graph(graph))


def bypass(signature: SignatureGraph) -> SignatureGraph:
    """Return the signature without nodes that only pass their input on; checks stay."""
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    _cut(graph, frozenset())  # nobody has to wait for a constant
    _bypass(graph, {node_of(tensor) for tensor in signature.fetches})
    return strip(signature.with_graph(graph))


def _bypass(graph: Any, outputs: set[str]) -> None:
    """Let the readers of a pass-through node read its source."""
    nodes = {node.name: node for node in graph.node}

    def is_removable(node: Any) -> bool:
        # One with a control input holds something back; one behind a Switch marks a branch.
        is_plain = node.op in PASSING and len(node.input) == 1 and node.name not in outputs
        return is_plain and nodes[node_of(node.input[0])].op not in ("Switch", "RefSwitch")

    def source(reference: str) -> str:
        node = nodes[node_of(reference)]
        while is_removable(node):
            is_control = reference.startswith("^")
            reference = f"^{node_of(node.input[0])}" if is_control else node.input[0]
            node = nodes[node_of(reference)]
        return reference

    for node in graph.node:
        _set_inputs(node, [source(reference) for reference in node.input])


def _cut(graph: Any, kinds: frozenset[str]) -> None:
    """Make nobody wait for a side effect, directly or through a NoOp."""
    nodes = {node.name: node for node in graph.node}
    checks = {n.name for n in graph.node if n.op in kinds}
    if "Assert" in kinds:
        checks |= _guarded_checks(graph)

    def behind(name: str) -> set[str]:
        if name in checks or nodes[name].op in _ALWAYS_THERE:
            return set()
        if nodes[name].op != "NoOp":
            return {f"^{name}"}
        return {edge for reference in nodes[name].input for edge in behind(node_of(reference))}

    for node in graph.node:
        data = [reference for reference in node.input if not reference.startswith("^")]
        controls = [node_of(r) for r in node.input if r.startswith("^")]
        _set_inputs(node, [*data, *(edge for name in controls for edge in behind(name))])


def _guarded_checks(graph: Any) -> set[str]:
    """Return the branches whose bodies only check: `tf.debugging.Assert` becomes an If in TF 2."""
    bodies = {f.signature.name: f for f in graph.library.function}
    read = {node_of(r) for node in graph.node for r in node.input if not r.startswith("^")}

    def only_checks(node: Any) -> bool:
        called = [f.name for a in node.attr.values() for f in [a.func, *a.list.func] if f.name]
        kinds = {inner.op for name in called for inner in bodies[name].node_def}
        return bool(kinds & SIDE_EFFECTS) and kinds <= _HARMLESS

    branches = [node for node in graph.node if node.op in _BRANCHES and node.name not in read]
    return {node.name for node in branches if only_checks(node)}


def _set_inputs(node: Any, references: list[str]) -> None:
    data = [reference for reference in references if not reference.startswith("^")]
    controls = {reference for reference in references if reference.startswith("^")}
    del node.input[:]
    node.input.extend([*data, *sorted(controls)])
