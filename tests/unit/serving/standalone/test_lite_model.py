"""A LiteRT file behind the interface of a SavedModel."""

from pathlib import Path

import numpy as np
import pytest

from serving.server.grpc.statuses import CallError
from serving.standalone.lite_model import LiteModel
from tests.litert_files import adding_file


def test_a_request_of_a_wrong_shape_leaves_the_next_ones_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(adding_file(np.array([1.0, 2.0, 3.0, 4.0])))
    model = LiteModel(path)
    right, wrong = np.ones((1, 4), np.float32), np.ones((1, 5), np.float32)
    for _ in range(2):
        (found,) = model.run({"x": right}, ["y"])
        assert found.tolist() == [[2.0, 3.0, 4.0, 5.0]]
        with pytest.raises(CallError, match="failed to prepare"):
            model.run({"x": wrong}, ["y"])
    (found,) = model.run({"x": np.zeros((2, 4), np.float32)}, ["y"])
    assert found.tolist() == [[1.0, 2.0, 3.0, 4.0]] * 2
