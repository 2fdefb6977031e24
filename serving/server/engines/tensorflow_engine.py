"""TensorFlow's SavedModels as a `ServedModel`."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import DataError
from serving.server.engines.cores import threads_per_call
from serving.server.engines.engine import Columns, Outputs, RefusedInputError, Signature, TensorInfo


@dataclass(frozen=True)
class _Entry:
    """A signature as one flat function: `inputs` and `outputs` in the order of its arguments."""

    function: Any
    captures: list[Any]
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[str, ...]
    output_dtypes: list[Any]


class TensorFlowModel:
    """All signatures of one SavedModel."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            DataError: If it is not a SavedModel, or one without signatures.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        tf = tensorflow_without_keras()
        with suppress(RuntimeError):  # in a notebook TensorFlow may be at work: its threads stay
            tf.config.threading.set_intra_op_parallelism_threads(threads_per_call())
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self._tf = tf
        try:
            # Kept because it owns the variables and tables that the signatures use.
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{path}: not a SavedModel that loads: {_first_line(error)}") from error
        functions = self._model.signatures
        if not functions:
            raise DataError(f"{path}: a SavedModel without signatures; export one")
        self._entries = {name: self._flatten(function) for name, function in functions.items()}
        self._signatures = {name: _describe(function) for name, function in functions.items()}

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def call(self, signature: str, columns: Columns) -> Outputs:
        tf, entry = self._tf, self._entries[signature]
        try:
            arguments = [tf.constant(columns[name], dtype) for name, dtype in entry.inputs]
            # The raw op instead of `function(...)`: 80 µs a call instead of 230, the difference
            # being Python that binds and checks arguments which are checked already.
            results = tf.raw_ops.StatefulPartitionedCall(
                args=arguments + entry.captures, Tout=entry.output_dtypes, f=entry.function
            )
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise RefusedInputError(_first_line(error)) from error
        except UnicodeDecodeError as error:  # of the message, which quotes the value
            raise RefusedInputError("it cannot take bytes that are no UTF-8 text") from error
        return {name: t.numpy() for name, t in zip(entry.outputs, results, strict=True)}

    def _flatten(self, function: Any) -> _Entry:
        tf = self._tf
        specs = sorted(function.structured_input_signature[1].items())
        names = [name for name, _ in specs]
        outputs = sorted(function.structured_outputs)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def flat(*arguments: Any) -> list[Any]:
            results = function(**dict(zip(names, arguments, strict=True)))
            return [results[name] for name in outputs]

        concrete = flat.get_concrete_function(
            *(tf.TensorSpec(spec.shape, spec.dtype) for _, spec in specs)
        )
        return _Entry(
            concrete,
            list(concrete.captured_inputs),
            tuple((name, spec.dtype) for name, spec in specs),
            tuple(outputs),
            [output.dtype for output in concrete.outputs],
        )


def tensorflow_without_keras() -> Any:
    """Import TensorFlow, not Keras: it would take as long again, and no SavedModel needs it."""
    is_hidden = sys.modules.setdefault("keras", None) is None  # type: ignore[arg-type]
    try:
        import tensorflow as tf
    finally:
        if is_hidden:
            del sys.modules["keras"]
    return tf


def _describe(function: Any) -> Signature:
    inputs = function.structured_input_signature[1]
    return Signature(
        {name: _tensor_info(name, spec) for name, spec in sorted(inputs.items())},
        {name: _tensor_info(name, t) for name, t in sorted(function.structured_outputs.items())},
    )


def _tensor_info(name: str, spec: Any) -> TensorInfo:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return TensorInfo(name, str(spec.dtype.name), shape)


def _first_line(error: Exception) -> str:
    """Return what TensorFlow says without its graph coordinates, operation and stack."""
    text = str(getattr(error, "message", "") or error)
    text = re.sub(r"\{\{[^}]*\}\}", "", text).strip()
    line = (text.splitlines() or [type(error).__name__])[0]
    return re.sub(r"\s*\[Op:[^]]*\].*$", "", line).strip()
