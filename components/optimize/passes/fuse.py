"""Layer, bias and activation become one node, by Grappler's remapper."""

from typing import Any

from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.grappler import run_grappler
from components.optimize.passes.change import Change, Findings, change_of

OPTIMIZERS = ("remap",)
_CPU = "/device:CPU:0"


def apply(model: GraphModel) -> Change:
    """Fuse conv + bias + activation and matmul + bias + activation.

    A layer norm of plain operations, as Keras 3 writes it, stays as it is: Grappler joins none, and
    the one kernel there is for CPUs (`_MklLayerNorm`) is slower for few rows (docs/optimizer.md).

    The result holds nodes that are TensorFlow's own affair (`_FusedConv2D`): other engines and
    other versions may not know them. Every server's Grappler makes the same of the plain graph
    when it loads it, so this saves time at the start, and is not among the default passes.
    """
    fused, findings = model.rewritten(_fuse), Findings()
    for signature in fused.signatures.values():
        for node in _layer_norms(GraphEdit(signature)):
            findings.refuse(node.name, "a layer norm has no faster fused kernel on CPUs")
    return change_of(model, fused, findings)


def _layer_norms(edit: GraphEdit) -> list[Any]:
    """Return the variances that are computed from the current data: means of squared differences.

    Batch norms at inference have constants there.
    """
    return [
        node
        for node in edit.of_kind("Mean")
        if edit.source(node.input[0]).op in ("SquaredDifference", "Square")
    ]


def _fuse(signature: SignatureGraph) -> SignatureGraph:
    keep = [*signature.feeds, *signature.fetches]
    graph = run_grappler(_on(signature, _CPU), keep, OPTIMIZERS)
    for node in graph.node:
        node.device = ""
    return signature.with_graph(graph)


def _on(signature: SignatureGraph, device: str) -> object:
    """Return the graph with each node on a device; the remapper asks which kernels there are."""
    graph = type(signature.graph_def)()
    graph.CopyFrom(signature.graph_def)
    for node in graph.node:
        node.device = device
    return graph
