"""The user's model built twice: what is logged where the second build is told of this process."""

import logging
from pathlib import Path

import pytest

from components.models.two_builds import build_twice
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

MODEL = """
import os
import keras

def build_model(features, hyperparameters):
    {line}
    x = keras.layers.Reshape((1,))(features["x"])
    return keras.Model(inputs=features, outputs=keras.layers.Dense(1)(x))
"""


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        (
            "os.makedirs(f\"{os.path.dirname(__file__)}/{os.environ['USER']}\", exist_ok=True)",
            [
                "model.py: build_model: built again with the facts of this process, others fail: "
                "model.py: build_model: ValueError at model.py:6: embedded null byte"
            ],
        ),
        ("os.getpid()", []),
    ],
)
def test_a_build_that_fails_with_other_facts_is_repeated_and_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    line: str,
    logged: list[str],
) -> None:
    monkeypatch.setenv("USER", "ada")
    caplog.set_level(logging.INFO, "slipway")
    (tmp_path / "model.py").write_text(MODEL.format(line=line))
    raw = {
        "name": "odd",
        "features": {"x": {"dtype": "float32"}},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": {"kind": "csv", "files": ["a.csv"]}},
    }
    config = validate(PipelineConfig, raw, "odd")
    builds = build_twice(config, tmp_path, {"x": ((), "float32")})
    assert [record.getMessage() for record in caplog.records] == logged
    assert bool(builds.elsewhere.words) is (not logged)
