"""Variables become constants, so that later passes can compute with them."""

from components.optimize.graphs import GraphModel, SignatureGraph
from components.optimize.passes.change import Change, change_of


def apply(model: GraphModel) -> Change:
    """Freeze every signature. Tables stay tables: what they hold is in assets, not in variables."""
    return change_of(model, model.rewritten(SignatureGraph.frozen))
