"""What is found, written into the messages of TensorFlow Serving."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from contract.wire.tensors import DATA_TYPES, write_tensor
from serving.standalone.inference import Answered
from serving.standalone.servables import Version

_STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}


def write_status(answer: Any, versions: Iterable[Version]) -> None:
    """Write versions into a GetModelStatusResponse."""
    for version in versions:
        status = answer.model_version_status.add(
            version=version.number, state=_STATES[version.state]
        )
        status.status.SetInParent()
        if version.error is not None:
            status.status.error_code = version.error.code.value[0]
            status.status.error_message = str(version.error)


def write_spec(spec: Any, asked: Any, answered: Answered) -> None:
    """Write which model, version and signature have answered."""
    spec.name = asked.name
    spec.version.value = answered.version
    spec.signature_name = answered.signature


def write_classes(result: Any, rows: Sequence[Sequence[tuple[str, float]]]) -> None:
    """Write the classes of each example into a ClassificationResult."""
    for row in rows:
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label, score=score)


def write_values(result: Any, values: Sequence[float]) -> None:
    """Write the value of each example into a RegressionResult."""
    for value in values:
        result.regressions.add(value=value)


def write_content(tensor: Any, array: "np.ndarray[Any, Any]") -> None:
    """Write numbers as raw bytes; text cannot be written so, in TensorFlow neither."""
    if array.dtype.kind in "OSU" or array.dtype.name not in DATA_TYPES:
        write_tensor(tensor, array)
        return
    tensor.dtype = DATA_TYPES[array.dtype.name]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.ascontiguousarray(array).tobytes()
