"""What small requests may ask for."""

from typing import Any

import numpy as np
import pytest

from contract.wire.tensorflow_serving import ClassificationRequest, Example, PredictRequest
from contract.wire.tensors import DATA_TYPES, write_tensor
from serving.server.grpc.statuses import CallError
from serving.standalone.limits import MOST_COPIED_BYTES
from serving.standalone.messages import arrays_of, examples_of


def filled(name: str, *sizes: int, values: int = 1) -> Any:
    request = PredictRequest()
    tensor = request.inputs[name]
    tensor.dtype = DATA_TYPES["float32"]
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend([3.0] * values)
    return tensor


def test_one_value_may_stand_for_megabytes_of_all_inputs_together_only() -> None:
    half = MOST_COPIED_BYTES // 8  # floats of 4 bytes, two inputs
    inputs = {"a": filled("a", half), "b": filled("b", half)}
    assert sorted(arrays_of({"a": inputs["a"], "c": filled("c", 4)})["c"]) == [3.0] * 4
    assert [len(array) for array in arrays_of(inputs).values()] == [half, half]
    inputs["c"] = filled("c", 4)  # the one value of each is no filling, of the third 12 bytes are
    with pytest.raises(CallError, match=r"inputs: single values stand for 67108868 bytes .* send"):
        arrays_of(inputs)


def test_values_that_are_sent_are_taken_whatever_their_size() -> None:
    request = PredictRequest()
    array = np.zeros(MOST_COPIED_BYTES + 8, np.int8)
    tensor = request.inputs["a"]
    tensor.dtype = DATA_TYPES["int8"]
    tensor.tensor_shape.dim.add(size=len(array))
    tensor.tensor_content = array.tobytes()
    assert len(arrays_of(request.inputs)["a"]) == len(array)
    write_tensor(request.inputs["b"], np.ones(3, np.int64))
    assert arrays_of(request.inputs)["b"].tolist() == [1, 1, 1]


def test_a_context_is_copied_to_megabytes_only() -> None:
    given = ClassificationRequest().input
    held = given.example_list_with_context
    held.context.features.feature["x"].bytes_list.value.append(b"x" * (1 << 20))
    context = held.context.SerializeToString()
    held.examples.extend([Example()] * 60)
    assert examples_of(given) == [context] * 60
    held.examples.extend([Example()] * 5)  # 64 copies beyond the first, each a little over 1 MiB
    words = f"context: {len(context)} bytes for each of 65 examples, expected at most 67108864"
    with pytest.raises(CallError, match=words):
        examples_of(given)


def test_one_example_may_have_a_context_of_any_size() -> None:
    given = ClassificationRequest().input
    held = given.example_list_with_context
    held.context.features.feature["x"].bytes_list.value.append(b"x" * (MOST_COPIED_BYTES + 1))
    held.examples.add()
    assert examples_of(given) == [held.context.SerializeToString()]
