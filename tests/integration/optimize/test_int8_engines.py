"""An int8 engine that costs points is brought back by float layers."""

from pathlib import Path

import numpy as np
from small_models import outlier_model

from components.optimize.engines.attempts import Attempts, Models


def test_int8_engines_that_cost_points_leave_a_layer_in_float(tmp_path: Path) -> None:
    source, data = outlier_model(tmp_path / "in")
    (tmp_path / "work").mkdir()
    attempts = Attempts(Models(source, source, data), 1.0, tmp_path / "work")
    exact, openvino, litert = attempts.run(["openvino_int8", "litert_int8"])
    assert exact.judgement is None  # float engines are held to their digits
    labels = data.evaluation.truths[0].labels
    before = np.mean(exact.answers["scores"].argmax(1) == labels)
    assert len(openvino.float_layers) == 1, openvino.no_rescue
    # LiteRT's quantiser may have joined the layer with others; then it says so
    assert litert.float_layers or litert.no_rescue
    for one in (one for one in (openvino, litert) if one.float_layers):
        assert not one.failure, one.failure
        assert one.cost_points <= 1.0
        assert np.mean(one.answers["scores"].argmax(1) == labels) >= before - 0.01
        whole = tmp_path / "work" / one.name  # all in int8, which was caught
        assert whole.is_dir() and attempts.folders[one.name] != whole
