"""Export and the two signatures, on a trained run with every kind of feature and two heads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.bless.candidate import export_candidate
from components.data.raw_examples import RawColumns, encode_rows, to_rows
from components.models.saved_models import (
    LoadedModel,
    load,
    predict_columns,
    predict_examples,
    wire_inputs,
)
from components.package.skew import SkewCheck
from contract.errors import DataError, DiskFullError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE
from contract.records.data import TransformRecord
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig
from contract.storage import publish_directory, storage_errors

ROWS = 50


@pytest.fixture(scope="module")
def config(trained_run: RunLayout) -> PipelineConfig:
    return load_frozen(trained_run)


@pytest.fixture(scope="module")
def offline(optimized_run: RunLayout) -> SkewCheck:
    """Raw test rows, and what Beam's transformed examples and the Keras model say of them."""
    return SkewCheck.of_run(optimized_run, ROWS)


@pytest.fixture(scope="module")
def exported(
    trained_run: RunLayout, config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    target = tmp_path_factory.mktemp("exported") / "model"
    record = Result.read(trained_run.result("transform")).detail_as(TransformRecord)
    export_candidate(trained_run, config, record, target)
    return load(target)


def first(columns: RawColumns, rows: int) -> RawColumns:
    features = {name: column[:rows] for name, column in columns.features.items()}
    labels = {name: column[:rows] for name, column in columns.labels.items()}
    return RawColumns(features, labels, columns.ids[:rows], None)


def test_a_full_disk_leaves_no_saved_model(
    trained_run: RunLayout, config: PipelineConfig, small_disk: Callable[[str], Path]
) -> None:
    record = Result.read(trained_run.result("transform")).detail_as(TransformRecord)
    disk = small_disk("64k")
    with (
        pytest.raises(DiskFullError, match="model: disk full; nothing was published .*bytes free"),
        publish_directory(disk / "model") as target,
    ):
        export_candidate(trained_run, config, record, target / "candidate")
    assert list(disk.iterdir()) == []


def test_tensorflow_says_of_a_full_disk_what_we_look_for(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(DiskFullError, match="model: disk full"), storage_errors(target):
        tf.io.write_file("/dev/full", "x" * 100_000)


def test_both_signatures_answer_as_the_trained_model_does_offline(
    exported: LoadedModel, config: PipelineConfig, offline: SkewCheck
) -> None:
    by_columns = predict_columns(exported, offline.columns, config, batch_size=7)
    examples = encode_rows(to_rows(offline.columns), config)
    by_examples = predict_examples(exported, examples, config, batch_size=11)
    for head, expected in offline.expected.items():
        np.testing.assert_allclose(by_columns[head], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(by_examples[head], expected, rtol=1e-5, atol=1e-6)


def test_heads_have_their_shapes(
    exported: LoadedModel, config: PipelineConfig, offline: SkewCheck
) -> None:
    answers = predict_columns(exported, first(offline.columns, 3), config)
    assert answers["is_large"].shape == (3, 2)
    assert answers["price"].shape == (3,)
    np.testing.assert_allclose(answers["is_large"].sum(axis=1), 1.0, rtol=1e-6)
    outputs = exported.signature(DEFAULT_SIGNATURE).structured_outputs  # type: ignore[attr-defined]
    assert set(outputs) == {"is_large_scores", "price_value"}


def test_padding_changes_no_answer(
    exported: LoadedModel, config: PipelineConfig, offline: SkewCheck
) -> None:
    """A row alone, with a list as long as it is, and the same row beside longer ones."""
    everything = predict_columns(exported, offline.columns, config)
    alone = predict_columns(exported, first(offline.columns, 1), config)
    np.testing.assert_allclose(alone["price"][0], everything["price"][0], rtol=1e-6)


def test_variable_length_columns_are_padded_at_the_end(
    config: PipelineConfig, offline: SkewCheck
) -> None:
    lists = [np.array([b"air", b"sea"], object), np.array([], object)]
    rows = np.empty(2, object)
    rows[:] = lists
    features = {**first(offline.columns, 2).features, "stamps": rows}
    padded = wire_inputs(features, config)["stamps"]
    assert padded.tolist() == [[b"air", b"sea"], [b"", b""]]


def test_examples_may_lack_a_value_that_has_a_default(
    exported: LoadedModel, config: PipelineConfig, offline: SkewCheck
) -> None:
    (row,) = to_rows(first(offline.columns, 1))
    without = encode_rows([{k: v for k, v in row.items() if k != "colour"}], config)
    default = encode_rows([{**row, "colour": "grey"}], config)
    left, right = (predict_examples(exported, e, config)["price"] for e in (without, default))
    np.testing.assert_array_equal(left, right)


def test_examples_that_lack_a_required_value_are_refused(
    exported: LoadedModel, config: PipelineConfig, offline: SkewCheck
) -> None:
    (row,) = to_rows(first(offline.columns, 1))
    without = encode_rows([{k: v for k, v in row.items() if k != "weight_kg"}], config)
    with pytest.raises(tf.errors.InvalidArgumentError, match="weight_kg"):
        predict_examples(exported, without, config)


def test_no_rows_give_no_answers(exported: LoadedModel, config: PipelineConfig) -> None:
    assert len(predict_examples(exported, [], config)["price"]) == 0


def test_vocabularies_are_assets(exported: LoadedModel) -> None:
    assert {path.name for path in (exported.path / "assets").iterdir()} == {"colours", "stamps"}


def test_an_unknown_signature_is_refused_with_those_there_are(exported: LoadedModel) -> None:
    with pytest.raises(DataError, match=f"no signature 'predict'.*{EXAMPLES_SIGNATURE}"):
        exported.signature("predict")


def test_a_path_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a SavedModel: saved_model.pb is missing"):
        load(tmp_path)
