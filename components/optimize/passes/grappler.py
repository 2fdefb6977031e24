"""TensorFlow's own rewrites, done once here and not at every load."""

from functools import partial

from components.optimize.graph.graphs import GraphModel
from components.optimize.passes.change import Change, by_grappler, change_of

# Those whose result any TensorFlow can run. `remap` and `layout` choose kernels for the machine at
# hand; the serving process does that for its own when it loads the model.
OPTIMIZERS = ("shape", "arithmetic", "constfold", "common_subgraph_elimination", "dependency")


def apply(model: GraphModel) -> Change:
    """Simplify shapes and arithmetic, merge equal nodes, drop needless control edges."""
    return change_of(model, model.rewritten(partial(by_grappler, optimizers=OPTIMIZERS)))
