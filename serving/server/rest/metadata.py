"""TensorFlow Serving's version status and signature metadata as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson

from contract.records.package import PackageManifest
from serving.server.engines.engine import Signature, TensorInfo

# Names of TensorFlow's DataType protobuf (tensorflow/core/framework/types.proto).
_DATA_TYPES = {
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "bfloat16": "DT_BFLOAT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
}


def status_body(version: int, state: str) -> bytes:
    """Answer `GET /v1/models/NAME`; states are START, LOADING, AVAILABLE, UNLOADING, END."""
    status = {
        "version": str(version),
        "state": state,
        "status": {"error_code": "OK", "error_message": ""},
    }
    return orjson.dumps({"model_version_status": [status]})


def metadata_body(manifest: PackageManifest, signatures: Mapping[str, Signature]) -> bytes:
    """Answer `GET /v1/models/NAME/metadata`."""
    definitions = {
        name: {
            "inputs": {key: _tensor(tensor) for key, tensor in signature.inputs.items()},
            "outputs": {key: _tensor(tensor) for key, tensor in signature.outputs.items()},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for name, signature in signatures.items()
    }
    model = {
        "name": manifest.pipeline,
        "signature_name": "",
        "version": str(manifest.version),
    }
    metadata = {"signature_def": {"signature_def": definitions}}
    return orjson.dumps({"model_spec": model, "metadata": metadata})


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    sizes = [] if tensor.shape is None else tensor.shape
    dimensions = [{"size": str(-1 if size is None else size), "name": ""} for size in sizes]
    return {
        "dtype": _DATA_TYPES.get(tensor.dtype, "DT_INVALID"),
        "tensor_shape": {"dim": dimensions, "unknown_rank": tensor.shape is None},
        "name": f"{tensor.name}:0",
    }
