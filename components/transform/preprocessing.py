"""The user's `preprocessing_fn`, wrapped so that what it returns is checked and fits an example."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.data.raw_columns import ID, WEIGHT
from components.models.traced_operations import python_operation, random_operation
from components.models.user_code import function_of, load_module, user_code
from components.transform.vocabularies import repeated_file
from contract.errors import UserCodeError
from contract.model_io import LABEL_PREFIX, SLICE_PREFIX

Tensors = Mapping[str, Any]  # tf.Tensor, tf.SparseTensor or tf.RaggedTensor by name

_WHERE = "preprocessing.py: preprocessing_fn"
_RESERVED = (ID, WEIGHT)
_RESERVED_PREFIXES = (LABEL_PREFIX, SLICE_PREFIX)


def load_preprocessing(folder: Path) -> Callable[[Tensors], dict[str, Any]]:
    """Return the checked `preprocessing_fn` of a frozen pipeline.

    It may return narrower or wider numbers than examples hold; booleans and integers become int64,
    floating-point numbers float32.

    Raises:
        UserCodeError: Here if there is no such function; from the function returned if the user's
            raises, or returns anything but a dict of tensors with a batch dimension.
    """
    function = function_of(load_module(folder, "preprocessing.py"), "preprocessing_fn", ("inputs",))

    def preprocessing_fn(inputs: Tensors) -> dict[str, Any]:
        with user_code(_WHERE):
            outputs = function(dict(inputs))
        _check_operations()
        return _checked(outputs)

    return preprocessing_fn


def _check_operations() -> None:
    """Refuse what cannot be served, or gives a row other features each time or those of another."""
    if tf.executing_eagerly():
        return
    graph = tf.compat.v1.get_default_graph()
    if name := python_operation(graph):
        raise UserCodeError(
            f"{_WHERE}: '{name}' calls Python (tf.py_function, tf.numpy_function), which a served "
            "model cannot do; expected operations of TensorFlow only"
        )
    if name := random_operation(graph):
        raise UserCodeError(
            f"{_WHERE}: '{name}' draws other numbers in each call, so the features of a row would "
            "differ between training and serving; expected the same features each time, as with "
            "tf.random.stateless_uniform"
        )
    if name := repeated_file(graph):
        raise UserCodeError(
            f"{_WHERE}: two vocabularies have the vocab_filename '{name}', so one would replace "
            "the other; give each its own, or compute it once"
        )


def _checked(outputs: Any) -> dict[str, Any]:
    if not isinstance(outputs, dict):
        raise UserCodeError(
            f"{_WHERE}: returned {type(outputs).__name__}, expected a dict of tensors by name"
        )
    if not outputs:
        raise UserCodeError(f"{_WHERE}: returned an empty dict, expected at least one feature")
    return {name: _checked_value(name, value) for name, value in outputs.items()}


def _checked_value(name: Any, value: Any) -> Any:
    where = f"{_WHERE}: output {name!r}"
    if not isinstance(name, str) or not name:
        raise UserCodeError(f"{where}: a name must be text, found {type(name).__name__}")
    if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
        raise UserCodeError(f"{where}: the name is reserved for ids, labels and slices")
    if not isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor):
        raise UserCodeError(
            f"{where}: expected a Tensor, SparseTensor or RaggedTensor, found "
            f"{type(value).__name__}"
        )
    if isinstance(value, tf.Tensor) and not tf.executing_eagerly() and hasattr(value, "numpy"):
        raise UserCodeError(
            f"{where}: is a constant that was computed outside of the function, of shape "
            f"{value.shape}; expected one value per row, computed from the inputs"
        )
    if value.shape.rank == 0:
        raise UserCodeError(
            f"{where}: has no batch dimension; expected one value per row, shape [batch, ...]"
        )
    if isinstance(value, tf.Tensor) and not value.shape[1:].is_fully_defined():
        raise UserCodeError(
            f"{where}: shape {value.shape} is unknown except for the batch; call tf.ensure_shape, "
            "or return a RaggedTensor"
        )
    return _as_example_type(value, where)


def _as_example_type(value: Any, where: str) -> Any:
    if value.dtype == tf.string:
        return value
    if value.dtype.is_floating:
        return tf.cast(value, tf.float32)
    if value.dtype.is_integer or value.dtype.is_bool:
        return tf.cast(value, tf.int64)
    raise UserCodeError(f"{where}: type {value.dtype.name}; expected numbers, booleans or text")
