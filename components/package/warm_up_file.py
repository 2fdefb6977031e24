"""Rows written into a SavedModel as the requests with which TensorFlow Serving warms it up.

Source: tensorflow_serving/g3doc/saved_model_warmup.md: up to 1,000 PredictionLogs as TFRecords.
"""

import base64
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from components.data.tfrecord_shards import framed
from components.package.imported_rows import Rows
from contract.records.package import SignatureSpec, TensorSpec
from contract.storage import storage_errors
from contract.wire.tensorflow_serving import PredictionLog
from contract.wire.tensors import write_tensor

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
_MOST_RECORDS = 1000
_OWNER_WRITES = 0o200


def write_warm_up(model: Path, name: str, given: Rows, signature: SignatureSpec) -> bool:
    """Write each row as a Predict request. A model that has such a file keeps it.

    Args:
        model: The SavedModel's folder.
        name: By which it is asked for.
        given: Rows that its server has answered.
        signature: The one that they are for.

    Returns:
        Whether the file was written.

    Raises:
        StorageError, DiskFullError: If the disk refuses it.
    """
    file = model / REQUESTS
    if given.method != "predict" or file.exists():
        return False
    requests = [_request(name, given.signature, row, signature) for row in given.rows]
    with storage_errors(file):
        for folder in (model, file.parent):  # a copy may not be writable, as its source
            folder.mkdir(exist_ok=True)
            folder.chmod(folder.stat().st_mode | _OWNER_WRITES)
        file.write_bytes(b"".join(framed(islice(requests, _MOST_RECORDS))))
    return True


def _request(name: str, signature_name: str, row: Any, signature: SignatureSpec) -> bytes:
    record = PredictionLog()
    request = record.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    is_named = isinstance(row, Mapping) and row.keys() == signature.inputs.keys()
    by_name = row if is_named else {next(iter(signature.inputs)): row}
    for name_of_input, spec in signature.inputs.items():
        write_tensor(request.inputs[name_of_input], _array([by_name[name_of_input]], spec))
    return bytes(record.SerializeToString())


def _array(values: list[Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    if spec.dtype == "string":
        return np.array(_as_bytes(values), object)
    return np.array(values, ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else spec.dtype)


def _as_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_bytes(one) for one in value]
    return base64.b64decode(value["b64"]) if isinstance(value, Mapping) else str(value).encode()
