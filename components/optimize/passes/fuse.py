"""Layer, bias and activation become one node, by Grappler's remapper."""

from components.optimize.graphs import GraphModel, SignatureGraph
from components.optimize.grappler import run_grappler
from components.optimize.passes.change import Change, change_of

OPTIMIZERS = ("remap",)
_CPU = "/device:CPU:0"


def apply(model: GraphModel) -> Change:
    """Fuse conv + bias + activation, matmul + bias + activation, layer norm.

    The result holds nodes that are TensorFlow's own affair (`_FusedConv2D`): other runtimes and
    other versions may not know them. Every server's Grappler makes the same of the plain graph
    when it loads it, so this saves time at the start, and is not among the default passes.
    """
    return change_of(model, model.rewritten(_fuse))


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
