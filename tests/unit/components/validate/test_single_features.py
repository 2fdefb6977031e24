"""How well one feature alone predicts a label: a copy of it, noise, and an identifier."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.data.raw_examples import encode
from components.data.tfrecord_shards import write_shard
from components.validate.single_features import single_skills
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

ROWS = 2000
Columns = dict[str, pa.Array]


def columns(label: str, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    is_rare = rng.random(ROWS) < 0.05
    noise = rng.normal(size=ROWS)
    y = noise * 3 if label == "number" else is_rare.astype(np.int64)
    found: dict[str, Any] = {
        "above": np.where(is_rare, 2 + rng.random(ROWS), rng.random(ROWS)),
        "noise": noise,
        "name": [b"b" if one else b"a" for one in is_rare],
        "person": [f"{seed}-{n}".encode() for n in range(ROWS)],
    }
    arrays: Columns = {n: pa.array([[v] for v in values]) for n, values in found.items()}
    for name in ("above", "noise"):
        arrays[name] = arrays[name].cast(pa.list_(pa.float32()))
    kind = pa.float32() if label == "number" else pa.int64()
    arrays["label:y"] = pa.array([[v] for v in y.tolist()], pa.list_(kind))
    arrays["example_id"] = arrays["person"]
    return arrays


def skills(folder: Path, label: str) -> dict[str, float]:
    head = {"task": "regression"}
    if label == "class":
        head = {"task": "binary_classification", "classes": ["no", "yes"]}  # type: ignore[dict-item]
    text, number = {"dtype": "string"}, {"dtype": "float32"}
    raw = {
        "name": "people",
        "features": {"above": number, "noise": number, "name": text, "person": text},
        "heads": {"y": head},
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
    }
    config = validate(PipelineConfig, raw, "people")
    shards = {}
    for seed, split in enumerate(("train", "eval")):
        batch = pa.RecordBatch.from_pydict(columns(label, seed))
        shards[split] = [folder / f"{split}-00000-of-00001.tfrecord.gz"]
        write_shard(shards[split][0], encode(batch))
    return single_skills(config, shards)["y"]


def test_what_says_a_rare_class_is_found_and_the_rest_is_not(tmp_path: Path) -> None:
    found = skills(tmp_path, "class")
    assert found["above"] > 0.95
    assert found["name"] == 1.0
    assert found["noise"] < 0.2
    assert found["person"] == 0.0


def test_what_says_a_number_is_found_and_the_rest_is_not(tmp_path: Path) -> None:
    found = skills(tmp_path, "number")
    assert found["noise"] > 0.99
    assert found["above"] == found["person"] == pytest.approx(0.0, abs=0.02)
