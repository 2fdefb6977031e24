"""A user's model traced as it will be served: what only its operations show."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from components.models.model_hooks import MODEL_FILE
from components.models.traced_operations import python_operation
from components.models.user_code import user_code
from components.models.user_model import head_outputs
from contract.errors import UserCodeError
from contract.schema.pipeline import PipelineConfig

_WHERE = f"{MODEL_FILE}: build_model"
# Operations that leave values as they are, only move or convert them, or cut off their ends.
_PASSING = frozenset(
    {"Cast", "ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient", "StridedSlice"}
    | {"ClipByValue", "Maximum", "Minimum"}
)
_SQUASHING = {"Sigmoid": "sigmoid", "Softmax": "softmax"}


def check_traced(
    model: keras.Model, config: PipelineConfig, specs: Mapping[str, tf.TensorSpec]
) -> None:
    """Refuse layers that call Python, variables that Keras does not know, and probabilities.

    Args:
        model: What `build_model` returned.
        config: Its heads count.
        specs: Of a batch of features, by name.

    Raises:
        UserCodeError: With the operation or variable.
    """

    @tf.function(autograph=False)
    def answer(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return head_outputs(model, config, inputs, training=False)

    with user_code(_WHERE):
        graph: Any = answer.get_concrete_function(dict(specs)).graph
    if name := python_operation(graph):
        raise UserCodeError(
            f"{_WHERE}: '{name}' calls Python (tf.py_function, tf.numpy_function), which a served "
            "model cannot do; expected operations of TensorFlow or keras.ops only"
        )
    for name in _unknown_variables(model, graph):
        raise UserCodeError(
            f"{_WHERE}: variable '{name}' is in no layer's weights, so no checkpoint has it; "
            "create it by self.add_weight(...) of a Keras layer"
        )
    for head, output in graph.structured_outputs.items():
        if config.heads[head].task != "regression" and (found := _squashed_by(output)):
            raise UserCodeError(
                f"{_WHERE}: head '{head}' ends in a {found[0]} (operation '{found[1]}'); expected "
                f"logits: Slipway itself applies the {found[0]}. Remove it"
            )


def _unknown_variables(model: keras.Model, graph: Any) -> Iterator[str]:
    """Yield the names of TensorFlow's variables that answers depend on and Keras does not know."""
    known = {id(variable.value) for variable in model.variables}
    yield from (variable.name for variable in graph.variables if id(variable) not in known)


def _squashed_by(tensor: tf.Tensor) -> tuple[str, str] | None:
    operation: Any = tensor.op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    kind = _SQUASHING.get(operation.type)
    return None if kind is None else (kind, operation.name)
