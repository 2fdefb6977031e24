"""The vocabularies that a traced `preprocessing_fn` asks tf.Transform for."""

from typing import Any

import tensorflow as tf


def repeated_file(graph: tf.Graph) -> str:
    """Return the file name that two vocabularies have; empty if their names differ.

    tf.Transform asks for a name that is "unique within a given preprocessing function" and does not
    check it: one vocabulary would replace the other, and its features would all be unknown.
    """
    from tensorflow_transform import analyzer_nodes

    found = dict[str, Any]()
    waiting = [sink.future for sink in graph.get_collection(analyzer_nodes.ALL_REPLACEMENTS)]
    seen = list[Any]()
    while waiting:
        node = waiting.pop().parent_operation
        if any(node is other for other in seen):
            continue
        seen.append(node)
        waiting += node.inputs
        if isinstance(node.operation_def, analyzer_nodes.VocabularyOrderAndWrite):
            name = node.operation_def.vocab_filename
            if found.setdefault(name, node) != node:
                return str(name)
    return ""
