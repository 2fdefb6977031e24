"""The picture of a graph, by a graph made here."""

import tensorflow as tf

from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.report.pictures import graph_figure


def labels(*names: str) -> list[list[str]]:
    """Return the lines of each box of a graph that adds two inputs, through a variable."""
    weight = tf.Variable(tf.eye(2), name="kernel")
    spec = tf.TensorSpec([None, 2], tf.float32)
    function = tf.function(lambda a, b: tf.nn.relu(a @ weight) + b, autograph=False)
    graph = function.get_concrete_function(spec, spec).graph
    a, b, captured = (tensor.name for tensor in graph.inputs)
    signature = SignatureGraph(
        graph_def=graph.as_graph_def(),
        inputs={names[0]: (a, spec), names[1]: (b, spec)},
        outputs={"y": (graph.outputs[0].name, spec)},
        captures={captured: weight},
    )
    (axes,) = graph_figure(GraphModel({"serve": signature}, None, ()), "before").axes
    return [text.get_text().splitlines() for text in axes.texts if text.get_text()]


def test_inputs_and_variables_are_called_by_their_names() -> None:
    found = labels("age", "income")
    assert ["age"] in found
    assert ["income"] in found
    assert ["kernel", "ReadVariableOp"] in found
    assert not any("Placeholder" in lines for lines in found)


def test_a_very_long_name_is_cut() -> None:
    assert [f"{'x' * 27}…"] in labels("x" * 60, "income")
