"""What depends on constants only is computed now."""

from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.grappler import run_grappler
from components.optimize.passes.change import Change, change_of

OPTIMIZERS = ("constfold",)


def apply(model: GraphModel) -> Change:
    """Fold constants in every signature. Grappler leaves results above 100 KiB uncomputed."""
    return change_of(model, model.rewritten(_fold))


def _fold(signature: SignatureGraph) -> SignatureGraph:
    keep = [*signature.feeds, *signature.fetches]
    return signature.with_graph(run_grappler(signature.graph_def, keep, OPTIMIZERS))
