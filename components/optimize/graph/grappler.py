"""TensorFlow's own graph optimiser, run ahead of time on a graph with named feeds and fetches."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from components.models.tensorflow_internals import (
    disable_lower_using_switch_merge,
    export_meta_graph,
    op_def_registry,
    tf_optimizer,
)


def run_grappler(graph_def: Any, keep: Sequence[str], optimizers: Sequence[str]) -> Any:
    """Return the graph after some of Grappler's optimizers; tensors named in `keep` survive.

    Args:
        graph_def: A GraphDef.
        keep: Feeds and fetches, as tensor names (`x:0`).
        optimizers: Grappler's names, such as `constfold` or `remap`, in order; run until nothing
            changes, as TensorFlow does.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    meta_graph = export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    kept = meta_graph_pb2.CollectionDef()
    kept.node_list.value.extend(keep)
    meta_graph.collection_def["train_op"].CopyFrom(kept)
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1  # small graphs too
    rewrite.optimizers.extend(optimizers)
    optimized = tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False)
    for node in optimized.node:
        # "On the same device as node so-and-so", which a later pass may take out: it would leave a
        # graph that cannot be imported.
        node.attr.pop("_class", None)
    for function in optimized.library.function:
        # Grappler's own note, which TensorFlow refuses to load from a SavedModel.
        function.attr.pop("_GrapplerSpecializedFunc", None)
    return optimized


def inline_calls(graph_def: Any, keep: Sequence[str]) -> Any:
    """Return the graph with function calls replaced by their bodies; If and While stay functions.

    A call marked with another implementation for other hardware (`api_implements`, as recurrent
    Keras layers are) would not be inlined, so the mark is taken off. Nor would a function whose
    stateful nodes, such as lookups in tables, are not control outputs of it, as in the graphs of
    tf.Transform; so they are made that.
    """
    graph_def = disable_lower_using_switch_merge(graph_def)
    for function in graph_def.library.function:
        if "api_implements" in function.attr:
            del function.attr["api_implements"]
        for node in filter(_is_stateful, function.node_def):
            if node.name not in function.control_ret.values():
                function.signature.control_output.append(f"{node.name}_control")
                function.control_ret[f"{node.name}_control"] = node.name
    return run_grappler(graph_def, keep, ["function"])


def _is_stateful(node: Any) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and definition.is_stateful
