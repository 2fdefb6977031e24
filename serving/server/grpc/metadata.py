"""A model's signatures as TensorFlow describes them."""

from collections.abc import Mapping
from typing import Any

from contract.wire.tensorflow_serving import SignatureDefMap
from contract.wire.tensors import DATA_TYPES
from serving.server.engines.engine import Signature, TensorInfo

_PREDICT = "tensorflow/serving/predict"


def signature_defs(signatures: Mapping[str, Signature]) -> Any:
    """Return a SignatureDefMap; it says what REST's `/metadata` says."""
    made = SignatureDefMap()
    for name, signature in signatures.items():
        definition = made.signature_def[name]
        definition.method_name = _PREDICT
        for key, tensor in signature.inputs.items():
            _write(definition.inputs[key], tensor)
        for key, tensor in signature.outputs.items():
            _write(definition.outputs[key], tensor)
    return made


def _write(info: Any, tensor: TensorInfo) -> None:
    info.name = f"{tensor.name}:0"
    info.dtype = DATA_TYPES.get(tensor.dtype, 0)
    if tensor.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    info.tensor_shape.SetInParent()
    for size in tensor.shape:
        info.tensor_shape.dim.add(size=-1 if size is None else size)
