"""Variables become constants, so that later passes can compute with them."""

import tensorflow as tf

from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.passes.change import Change, change_of, unchanged
from components.optimize.passes.remove_nodes import without
from components.optimize.passes.stateful_variables import live_variables

_WRITES = frozenset({"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"})


def apply(model: GraphModel) -> Change:
    """Freeze every signature. Tables stay tables: what they hold is in assets, not in variables.

    A constant cannot be written to, so writes that outputs only wait for go: counters, seeds. A
    model whose answers do depend on what its signatures write keeps its variables.
    """
    if live := live_variables(model):
        return unchanged(
            model, f"signatures write to variables that answers depend on: {', '.join(live)}"
        )
    return change_of(model, model.rewritten(_freeze))


def _freeze(signature: SignatureGraph) -> SignatureGraph:
    if not any(isinstance(capture, tf.Variable) for capture in signature.captures.values()):
        return signature
    has_writes = any(node.op in _WRITES for node in signature.graph_def.node)
    return (without(signature, _WRITES) if has_writes else signature).frozen()
