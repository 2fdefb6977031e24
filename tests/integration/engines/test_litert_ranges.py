"""LiteRT's float32 kernels, at numbers where they would leave the range that they compute in."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, make
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.optimization import EngineFiles
from serving.server.engines.litert_engine import LiteRtEngine

NUMBERS = np.array([0, 1, 20, 100, 1e6, 1e25, 1e28, 1e32, 1e36, 3.4028234e38], np.float32)


def answers(folder: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what LiteRT answers to rows `[rows, 1]`: their sigmoids and softplus."""

    @tf.function(autograph=False)
    def squashed(x: Any) -> dict[str, Any]:
        # As in a binary head: the probability of "no" is the sigmoid of the negative.
        both = tf.concat([tf.sigmoid(-x), tf.sigmoid(x)], axis=1)
        return {"scores": both, "amount": tf.nn.softplus(x)}

    function = squashed.get_concrete_function(x=tf.TensorSpec([None, 1], tf.float32, "x"))
    tf.saved_model.save(tf.Module(), str(folder / "model"), {DEFAULT_SIGNATURE: function})
    for name in ("parts", "litert"):
        (folder / name).mkdir()
    core = Core.of(folder / "model", {"x": np.ones((2, 1), np.float32)}, folder / "parts")
    make(core, KINDS["litert"], folder / "litert")
    assert sorted(path.name for path in (folder / "litert").iterdir()) == [
        "core.tflite",
        "engine.json",
    ]
    files = EngineFiles.read(folder / "litert" / "engine.json")
    engine = LiteRtEngine(folder / "litert" / files.core, files)
    found = engine.run(dict(zip(files.core_inputs, [rows], strict=True)))
    by_width = {array.shape[1]: array for array in found.values()}
    return {"scores": by_width[2], "amount": by_width[1]}


def test_saturated_answers_are_those_of_arithmetic(tmp_path: Path) -> None:
    rows = np.concatenate([NUMBERS, -NUMBERS]).reshape(-1, 1)
    found = answers(tmp_path, rows)
    wide = rows.astype(np.float64)
    with np.errstate(over="ignore"):
        yes = 1.0 / (1.0 + np.exp(-wide))
        np.testing.assert_allclose(found["scores"], np.concatenate([1 - yes, yes], 1), atol=1e-6)
    # log(1 + exp(x)) in float64, and for large x, where that overflows, x itself
    amount = np.where(wide > 100.0, wide, np.log1p(np.exp(np.minimum(wide, 100.0))))
    is_told = wide < 3e38  # the engine takes the largest float32 for an infinity
    np.testing.assert_allclose(found["amount"][is_told], amount[is_told], rtol=1e-6, atol=1e-6)


def test_no_number_is_made_of_none(tmp_path: Path) -> None:
    found = answers(tmp_path, np.array([[np.nan], [1.0]], np.float32))
    assert np.isnan(found["scores"][0]).all()
    np.testing.assert_allclose(found["scores"][1], [0.26894142, 0.73105858], atol=1e-6)
