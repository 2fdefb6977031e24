"""A LiteRT file (once TensorFlow Lite) behind the interface of a SavedModel.

Source: tensorflow_serving/servables/tensorflow/tflite_session.cc. Signatures are those in the
file's metadata; a file without any has `serving_default`, with its tensors by their names.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grpc import StatusCode

from contract.errors import DataError
from contract.model_io import DEFAULT_SIGNATURE
from contract.wire.tensorflow_serving import SignatureDef
from contract.wire.tensors import DATA_TYPES
from serving.server.engines.cores import threads_per_call
from serving.server.grpc.statuses import CallError

Array = np.ndarray[Any, Any]

FILE_NAME = "model.tflite"
_METADATA = b"signature_defs_metadata"
_PREDICT = "tensorflow/serving/predict"


class LiteModel:
    """The interpreters of a file, one for each thread that calls."""

    def __init__(self, path: Path) -> None:
        """Load it once, to see that it loads.

        Raises:
            DataError: If LiteRT cannot run the file.
        """
        self._content = path.read_bytes()  # one copy for all threads
        self._of_thread = threading.local()
        try:
            opened = self._opened()
            self.signatures: Mapping[str, Any] = _signatures_in(self._content) or {
                DEFAULT_SIGNATURE: opened.described()
            }
            for signature in self.signatures.values():
                opened.check(signature)
        except (ValueError, RuntimeError, IndexError) as error:
            raise DataError(f"{path}: not a model that LiteRT runs: {error}") from error

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return tensors by the names that signatures give them.

        Raises:
            CallError: If LiteRT cannot take these inputs.
        """
        try:
            return self._opened().run(inputs, outputs)
        except (ValueError, RuntimeError) as error:
            raise CallError(StatusCode.INVALID_ARGUMENT, str(error).splitlines()[0]) from error

    def close(self) -> None:
        """Free what can be freed; the interpreters end with their threads."""
        self._of_thread = threading.local()

    def _opened(self) -> "_Interpreter":
        mine: _Interpreter | None = getattr(self._of_thread, "interpreter", None)
        if mine is None:
            mine = self._of_thread.interpreter = _Interpreter(self._content)
        return mine


class _Interpreter:
    """One thread's own: an interpreter is not safe to share."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = made = Interpreter(
            model_content=content, num_threads=threads_per_call()
        )
        made.allocate_tensors()
        self._inputs = {one["name"]: one for one in made.get_input_details()}
        self._outputs = {one["name"]: one for one in made.get_output_details()}
        self._shapes: dict[int, tuple[int, ...]] = {}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        given = {_find(self._inputs, name)["index"]: array for name, array in inputs.items()}
        shapes = {index: array.shape for index, array in given.items()}
        if shapes != self._shapes:
            self._shapes = {}  # of no call, until the file has taken the new ones
            for index, shape in shapes.items():
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in given.items():
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        places = [_find(self._outputs, name)["index"] for name in outputs]
        return [np.asarray(self._interpreter.get_tensor(place)) for place in places]

    def described(self) -> Any:
        """Return a signature of all inputs and outputs by the names of their tensors."""
        made = SignatureDef(method_name=_PREDICT)
        for infos, tensors in ((made.inputs, self._inputs), (made.outputs, self._outputs)):
            for name, tensor in tensors.items():
                dtype = np.dtype(tensor["dtype"])
                infos[name].name = name
                infos[name].dtype = DATA_TYPES["string" if dtype.kind in "OSU" else dtype.name]
                for size in tensor["shape"]:
                    infos[name].tensor_shape.dim.add(size=int(size))
        return made

    def check(self, signature: Any) -> None:
        """Raise ValueError if the file has not a tensor that a signature names."""
        for infos, tensors in (
            (signature.inputs, self._inputs),
            (signature.outputs, self._outputs),
        ):
            for info in infos.values():
                _find(tensors, info.name)


def _find(tensors: Mapping[str, Any], name: str) -> Any:
    """Return a tensor; converters once left out the `:0` of its name."""
    for one in (name, name.partition(":")[0]):
        if one in tensors:
            return tensors[one]
    raise ValueError(f"no tensor '{name}', only {sorted(tensors)}")


def _signatures_in(content: bytes) -> dict[str, Any]:
    """Return the signatures in a file's metadata: a FlexBuffers map of serialized SignatureDefs."""
    from ai_edge_litert.schema_py_generated import Model
    from flatbuffers import flexbuffers

    model = Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() == _METADATA:
            buffer = model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
            found = flexbuffers.GetRoot(buffer).AsMap
            keys, values = found.Keys, found.Values
            return {
                keys[n].AsKey: SignatureDef.FromString(values[n].AsStringBytes)
                for n in range(len(values))
            }
    return {}
