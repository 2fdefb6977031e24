"""What depends on constants only is computed now."""

from functools import partial

from components.optimize.graph.graphs import GraphModel
from components.optimize.passes.change import Change, by_grappler, change_of

OPTIMIZERS = ("constfold",)


def apply(model: GraphModel) -> Change:
    """Fold constants in every signature. Grappler leaves results above 100 KiB uncomputed."""
    return change_of(model, model.rewritten(partial(by_grappler, optimizers=OPTIMIZERS)))
