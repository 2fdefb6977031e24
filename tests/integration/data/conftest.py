"""A small pipeline of people in a temporary folder, and a way to run its data steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.ingest.__main__ import work as ingest
from components.runs.step import run_step
from components.transform.__main__ import work as transform
from components.validate.__main__ import work as validate
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig

WORKS = {"ingest": ingest, "validate": validate, "transform": transform}
COLUMNS = ("age", "job", "words", "income")

PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    return {
        "age": tft.scale_to_z_score(tf.cast(inputs["age"], tf.float32)),
        "job": tft.compute_and_apply_vocabulary(inputs["job"], num_oov_buckets=1),
        "words": tf.strings.length(inputs["words"]),
    }
"""


@dataclass
class Workshop:
    """A pipeline folder and an artifact root; edit `config` and `files`, then run steps."""

    folder: Path
    root: Path
    config: dict[str, Any]
    preprocessing: str = PREPROCESSING
    files: dict[str, bytes] = field(default_factory=dict)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "pipeline.yaml").write_text(yaml.safe_dump(self.config))
        (self.folder / "preprocessing.py").write_text(self.preprocessing)
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)

    def run(self, *steps: str, run_id: str = "r1") -> Result:
        self.write()
        for step in steps:
            command = StepCommand(step, self.folder.name, run_id, str(self.root))
            result = run_step(command, WORKS[step])
        return result

    def layout(self, run_id: str = "r1") -> RunLayout:
        return RunLayout(self.root, self.folder.name, run_id)

    def frozen(self, run_id: str = "r1") -> PipelineConfig:
        return load_frozen(self.layout(run_id))

    def shards(self, step: str, split: str, run_id: str = "r1") -> list[Path]:
        folder = self.layout(run_id).step(step)
        names = Result.read(self.layout(run_id).result(step)).detail["shards"][split]
        return [folder / name for name in names]


def people(count: int, seed: int = 0) -> list[tuple[str, str, str, str]]:
    """Return rows of (age, job, words, income), all different."""
    rng = np.random.default_rng(seed)
    jobs = ("cook", "smith", "clerk")
    return [
        (
            str(20 + number % 60),
            jobs[int(rng.integers(3))],
            " ".join(f"w{word}" for word in rng.integers(0, 50, int(rng.integers(0, 4))))
            + f" n{number}",
            ("<=50K", ">50K")[int(rng.integers(2))],
        )
        for number in range(count)
    ]


def as_csv(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] | None = COLUMNS) -> bytes:
    lines = [",".join(row) for row in ([header, *rows] if header else rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def small_config() -> dict[str, Any]:
    """Return the pipeline of people as `pipeline.yaml` would have it."""
    return {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "minimum": 0, "maximum": 120},
            "job": {"dtype": "string", "default": "none"},
            "words": {"dtype": "string", "is_variable_length": True},
        },
        "heads": {
            "income": {"task": "binary_classification", "classes": ["<=50K", ">50K"], "strip": "."}
        },
        "ingest": {
            "source": {"kind": "csv", "files": ["people.csv"], "missing": ["", "?"]},
            "split": {"train": 0.6, "eval": 0.2, "test": 0.2},
        },
        "evaluate": {"slices": ["job", "age"]},
    }


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(tmp_path / "pipelines"))
    shop = Workshop(tmp_path / "pipelines" / "people", tmp_path / "root", small_config())
    shop.files["people.csv"] = as_csv(people(300))
    return shop


@pytest.fixture
def edit(workshop: Workshop) -> Callable[[str, Any], None]:
    """Set one key of the pipeline's config, as in `edit("ingest.split.key", "who")`."""

    def set_key(path: str, value: Any) -> None:
        *parents, last = path.split(".")
        place = workshop.config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value

    return set_key
