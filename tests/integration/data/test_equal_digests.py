"""Equal inputs, equal digests: whatever process ran a data step, and wherever its root is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.layout import RunLayout
from contract.records.record import Result

from .conftest import WORKS, Workshop, as_csv, people, small_config

ROOT = Path(__file__).resolve().parents[3]

# Every kind of full-pass result and every kind of output: they make functions, tables and assets.
PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    words = inputs["words"].to_sparse()
    return {
        "age": tft.scale_to_z_score(tf.cast(inputs["age"], tf.float32)),
        "age_bucket": tft.bucketize(inputs["age"], 5),
        "age_index": tft.compute_and_apply_vocabulary(inputs["age"], vocab_filename="ages"),
        "job": tft.compute_and_apply_vocabulary(inputs["job"], num_oov_buckets=1),
        "often": tft.compute_and_apply_vocabulary(inputs["job"], top_k=2, vocab_filename="often"),
        "tokens": tft.compute_and_apply_vocabulary(words, vocab_filename="words"),
        "words": tf.strings.length(inputs["words"]),
    }
"""

SCRIPT = """
import sys
from components.runs.step import run_step
from components.ingest.__main__ import work as ingest
from components.transform.__main__ import work as transform
from components.validate.__main__ import work as validate
from contract.command import StepCommand

for step, work in {"ingest": ingest, "validate": validate, "transform": transform}.items():
    run_step(StepCommand(step, sys.argv[2], "r1", sys.argv[1]), work)
"""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders, each with what its own process has published of the people."""
    return published_twice("people", tmp_path_factory.mktemp("digests"))


def published_twice(pipeline: str, folder: Path) -> tuple[Path, Path]:
    """Let two processes publish the same data; return the folder of each."""
    shop = Workshop(folder / "pipelines" / "people", folder / "unused", small_config())
    shop.files["people.csv"] = as_csv(people(300))
    shop.preprocessing = PREPROCESSING
    shop.write()
    roots = (folder / "one", folder / "another" / "place")
    processes = [
        run_in_process(root, pipeline, shop, seed) for seed, root in enumerate(roots, start=1)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-2000:]
    return roots


def run_in_process(root: Path, pipeline: str, shop: Workshop, seed: int) -> "subprocess.Popen[str]":
    ours = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(root), pipeline]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **ours, "SLIPWAY_PIPELINES": str(shop.folder.parent)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def layout(root: Path, pipeline: str) -> RunLayout:
    return RunLayout(root, pipeline, "r1")


def digests(run: RunLayout) -> dict[str, str]:
    results = [Result.read(run.result(step)) for step in WORKS]
    return {f"{r.step}/{name}": a.digest for r in results for name, a in r.artifacts.items()}


def test_two_processes_publish_the_same_bytes(roots: tuple[Path, Path]) -> None:
    assert_equal("people", roots)


@pytest.mark.thorough  # the people have more kinds of columns and of results
def test_two_processes_publish_the_same_bytes_of_images(tmp_path: Path) -> None:
    assert_equal("digits", published_twice("digits", tmp_path))


def assert_equal(pipeline: str, roots: tuple[Path, Path]) -> None:
    one, other = (digests(layout(root, pipeline)) for root in roots)
    assert one == other
    assert sorted(one) == [
        "ingest/examples",
        "transform/examples",
        "transform/transform_graph",
        "validate/schema",
        "validate/statistics",
    ]


def test_the_next_run_of_the_same_data_has_the_same_digests(workshop: Workshop) -> None:
    for step in ("ingest", "validate"):
        first, second = (workshop.run(step, run_id=run_id) for run_id in ("r1", "r2"))
        assert second.digest == first.digest


def test_a_rewritten_graph_loads_and_answers(roots: tuple[Path, Path]) -> None:
    import tensorflow as tf
    import tensorflow_transform as tft

    folder = layout(roots[0], "people").step("transform") / "transform_graph"
    output = tft.TFTransformOutput(str(folder))
    inputs = {
        "age": tf.constant([30, 71], tf.int64),
        "job": tf.constant(["cook", "nobody's"]),
        "words": tf.ragged.constant([["w1", "w2"], []], tf.string, row_splits_dtype=tf.int64),
    }
    answers = output.transform_features_layer()(inputs)
    vocabulary = output.vocabulary_by_name("ages")
    expected = [vocabulary.index(b"30"), vocabulary.index(b"71")]
    assert answers["age_index"].numpy().tolist() == expected
    assert answers["words"].to_list() == [[2, 2], []]
    assert answers["job"].numpy()[1] == 3  # three jobs are known; the rest has one bucket
    assert json.loads((folder / "transformed_metadata" / "asset_map").read_text())["ages"] == "ages"
