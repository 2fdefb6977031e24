"""A SavedModel by TensorFlow's first loader and a session, as TensorFlow Serving runs it.

It takes every signature that a SavedModel can have: those of TensorFlow 1 for Classify and Regress,
whose inputs are tf.Examples, and those whose outputs have no axis of rows. The second loader does
not open all of them, and checks shapes that the graph does not.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from grpc import StatusCode

from contract.errors import DataError
from contract.wire.tensorflow_serving import SignatureDef
from serving.server.engines.tensorflow_engine import tensorflow_without_keras
from serving.server.grpc.statuses import CallError

Array = np.ndarray[Any, Any]

_CALLABLES = 64  # by the inputs and outputs asked for; making one costs a millisecond
_CODES = {code.value[0]: code for code in StatusCode}
_PLACE = re.compile(r"\{\{[^}]*\}\}|\s*\[\[.*", re.DOTALL)


class SavedModel:
    """A graph with its variables, loaded."""

    def __init__(
        self, path: Path, tags: Sequence[str], intra_op_threads: int, inter_op_threads: int
    ) -> None:
        """Load it.

        Raises:
            DataError: If it is not a SavedModel, or has no graph with these tags.
        """
        tf = tensorflow_without_keras()
        self._errors = tf.errors
        self._graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
        )
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        try:
            with self._graph.as_default():
                meta = tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(path))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            self._session.close()
            raise DataError(f"{path}: not a SavedModel that loads: {_words(error)}") from error
        self.signatures: Mapping[str, Any] = {
            name: SignatureDef.FromString(signature.SerializeToString())
            for name, signature in meta.signature_def.items()
        }
        # Of the session: one of this object would be a cycle, whose memory waits for a collection.
        self._callable = lru_cache(_CALLABLES)(partial(_make_callable, self._session))

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return tensors of the graph; all are named as signatures name them, as in `x:0`.

        Raises:
            CallError: With the status that TensorFlow gives.
        """
        try:
            found = self._callable(tuple(inputs), tuple(outputs))(*inputs.values())
        except self._errors.OpError as error:
            code = _CODES.get(error.error_code, StatusCode.UNKNOWN)
            raise CallError(code, _words(error)) from error
        except UnicodeDecodeError as error:  # of the message, which quotes the caller's bytes
            words = error.object.decode(errors="backslashreplace")
            raise CallError(StatusCode.INVALID_ARGUMENT, _first_line(words)) from error
        return [np.asarray(one) for one in found]

    def close(self) -> None:
        """Free the variables; nothing may run afterwards."""
        self._callable.cache_clear()
        self._session.close()
        del self._callable, self._session  # its end frees the memory, which `close` does not


def _make_callable(session: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
    # `Session.run` compares shapes with those of the placeholders, which the graph itself and
    # TensorFlow Serving do not; this door, through which Keras went, also costs a third.
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    return session._make_callable_from_options(CallableOptions(feed=inputs, fetch=outputs))


def _words(error: Exception) -> str:
    """Return what TensorFlow says without the place in its graph."""
    text = str(getattr(error, "message", "") or error)
    return _first_line(text) or type(error).__name__


def _first_line(text: str) -> str:
    return next(iter(_PLACE.sub("", text).strip().splitlines()), "")
