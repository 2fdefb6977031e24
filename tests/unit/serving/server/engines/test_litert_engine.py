"""LiteRT as an engine."""

from pathlib import Path

import numpy as np
import pytest

from contract.records.optimization import EngineFiles
from serving.server.engines.litert_engine import LiteRtEngine
from tests.litert_files import adding_file


def test_a_request_of_a_wrong_shape_leaves_the_next_ones_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "core.tflite"
    path.write_bytes(adding_file(np.array([1.0, 2.0, 3.0, 4.0])))
    files = EngineFiles(
        engine="litert", precision="fp32", core=path.name, core_inputs=("x",), core_outputs=("y",),
        inputs=(), outputs=(),
    )  # fmt: skip
    engine = LiteRtEngine(path, files)
    right, wrong = np.ones((1, 4), np.float32), np.ones((1, 5), np.float32)
    for _ in range(2):
        assert engine.run({"x": right})["y"].tolist() == [[2.0, 3.0, 4.0, 5.0]]
        with pytest.raises(RuntimeError, match="failed to prepare"):
            engine.run({"x": wrong})
