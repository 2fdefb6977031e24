"""What a Keras model's graph shows: where a tensor comes from, and what a head ends in."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras

# Layers and operations (by class) that leave values as they are, or only move or convert them.
_PASSING = frozenset(
    {"Reshape", "Flatten", "Cast", "Identity", "Dropout", "SpatialDropout1D", "GaussianNoise"}
    | {"Squeeze", "ExpandDims", "StopGradient", "Transpose", "Permute", "GetItem", "Activation"}
)
_SQUASHING = {
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
    "hardsigmoid": "sigmoid",
    "softmax": "softmax",
    "sparsemax": "softmax",
}


class Step(NamedTuple):
    """The operation that made a tensor, and the tensors that it read."""

    operation: Any
    inputs: tuple[Any, ...]


class Lookup(NamedTuple):
    """A feature whose values are rows of an embedding."""

    layer: Any
    feature: str


def made_by(tensor: Any) -> Step:
    """Return how a tensor of a functional model was made."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return Step(history.operation, tuple(node.input_tensors))


def squashed_by(tensor: Any) -> tuple[str, str] | None:
    """Return by what an output is made a probability, `(sigmoid or softmax, layer's name)`, if so.

    Only what the graph shows is found: not what a layer of the user's own does inside.
    """
    while True:
        operation, inputs = made_by(tensor)
        if name := _squashing(operation):
            return name, operation.name
        inner = getattr(operation, "outputs", None)
        if isinstance(operation, keras.Model) and inner and len(inner) == 1:
            tensor = inner[0]
        elif type(operation).__name__ in _PASSING and len(inputs) == 1:
            tensor = inputs[0]
        else:
            return None


def lookups(model: keras.Model) -> Iterator[Lookup]:
    """Yield the embeddings that read a feature itself."""
    names = {id(tensor): name for name, tensor in model.input.items()}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Embedding):
            continue
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                if (feature := _feature_of(tensor, names)) is not None:
                    yield Lookup(layer, feature)


# --- inside -------------------------------------------------------------------------------------


def _squashing(operation: Any) -> str:
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", None) or type(activation).__name__
    if activation is None or isinstance(operation, keras.Model):
        name = type(operation).__name__
    return _SQUASHING.get(str(name).lower(), "")


def _feature_of(tensor: Any, names: Mapping[int, str]) -> str | None:
    while id(tensor) not in names:
        operation, inputs = made_by(tensor)
        if type(operation).__name__ not in _PASSING or len(inputs) != 1:
            return None
        tensor = inputs[0]
    return names[id(tensor)]
