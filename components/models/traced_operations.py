"""What a traced function calls that cannot be served, or that answers differently each time."""

from collections.abc import Iterator

import tensorflow as tf

# They call back into the Python process that traced them; a SavedModel has no Python.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# Each call draws new numbers, also with a seed; `tf.random.stateless_*` does not.
_RANDOM = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "TruncatedNormal",
    }
)


def python_operation(graph: tf.Graph) -> str:
    """Return the name of an operation that calls Python, as `py_function` makes; empty if none."""
    return next(_names(graph, _PYTHON), "")


def random_operation(graph: tf.Graph) -> str:
    """Return the name of an operation that draws new numbers in each call; empty if none."""
    return next(_names(graph, _RANDOM), "")


def _names(graph: tf.Graph, kinds: frozenset[str]) -> Iterator[str]:
    """Yield the names of the operations of some kinds, those in bodies of loops included."""
    traced = graph.as_graph_def()
    for body in [traced.node, *(function.node_def for function in traced.library.function)]:
        yield from (node.name for node in body if node.op in kinds)
