"""The verdict on a trained run: thresholds, the serving version, and the rows they share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.bless.answers import TestSplit, ask
from components.bless.bless import bless
from components.bless.candidate import export_candidate
from components.bless.champion import Champion
from components.data.raw_examples import RawColumns
from components.models.saved_models import export, load
from components.models.user_model import build_model
from components.quality.curves import curves_of
from components.quality.pictures import draw
from contract.errors import DataError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import IngestRecord, TransformRecord
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import BlessConfig


@pytest.fixture(scope="module")
def config(trained_run: RunLayout) -> PipelineConfig:
    return load_frozen(trained_run)


@pytest.fixture(scope="module")
def test_split(trained_run: RunLayout, config: PipelineConfig) -> TestSplit:
    record = Result.read(trained_run.result("ingest")).detail_as(IngestRecord)
    shards = [trained_run.step("ingest") / shard for shard in record.shards["test"]]
    return TestSplit.find(shards, config)


@pytest.fixture(scope="module")
def models(
    trained_run: RunLayout, config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The trained model, and the same network untrained: every row gets the same scores."""
    folder = tmp_path_factory.mktemp("models")
    record = Result.read(trained_run.result("transform")).detail_as(TransformRecord)
    export_candidate(trained_run, config, record, folder / "trained")
    graph = trained_run.step("transform") / record.transform_graph
    fresh = build_model(config, trained_run.frozen_pipeline, graph)
    fresh.set_weights([np.zeros_like(weights) for weights in fresh.get_weights()])
    export(config, graph, fresh, folder / "untrained")
    return {"trained": folder / "trained", "untrained": folder / "untrained"}


def without_thresholds(config: PipelineConfig, **changes: object) -> PipelineConfig:
    settings = BlessConfig(metric="auc", head="is_large", margin=0.05)
    return config.model_copy(update={"bless": settings.model_copy(update=changes)})


def test_a_worse_model_is_refused_as_a_result(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["trained"])
    found = bless(models["untrained"], champion, test_split, without_thresholds(config), {})
    assert not found.is_blessed
    assert "worse than version 7's" in found.reasons[-1]
    assert found.metrics["is_large"]["auc"].value < found.champion_metrics["is_large"]["auc"].value


def test_an_equal_model_is_accepted(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["trained"])
    found = bless(models["trained"], champion, test_split, without_thresholds(config), {})
    assert found.is_blessed
    assert "equal to version 7's" in found.reasons[-1]


def test_a_better_model_is_accepted_whatever_the_margin(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["untrained"])
    strict = without_thresholds(config, margin=0.0)
    assert bless(models["trained"], champion, test_split, strict, {}).is_blessed


def test_both_models_answer_the_same_rows(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    """The reported difference is that of the two models' AUCs over one set of rows."""
    by_accuracy = without_thresholds(config, metric="accuracy")
    champion = Champion(1, models["untrained"])
    found = bless(models["trained"], champion, test_split, by_accuracy, {})
    both = [ask(models[name], test_split)["is_large"] for name in ("trained", "untrained")]
    right = [np.mean(answers.scores.argmax(axis=1) == answers.labels) for answers in both]
    labels = both[0].labels
    assert f"is {right[0] - right[1]:.4g} better than version 1's" in found.reasons[-1]
    assert f"on the same {len(labels)} test rows" in found.reasons[-1]


def test_with_nothing_serving_thresholds_decide(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    nobody = Champion(None, None, "nothing to compare with: no version is in service")
    asked = {"thresholds": {"auc": 0.9}}
    good = bless(models["trained"], nobody, test_split, without_thresholds(config, **asked), {})
    assert good.is_blessed
    assert good.reasons[-1].startswith("nothing to compare with")
    bad = bless(models["untrained"], nobody, test_split, without_thresholds(config, **asked), {})
    assert not bad.is_blessed
    assert "required ≥ 0.9: not met" in bad.reasons[0]


def test_a_champion_that_cannot_be_compared_leaves_the_thresholds(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    other = Champion(3, None, "version 3 cannot be compared with: its inputs differ (colour)")
    found = bless(models["trained"], other, test_split, without_thresholds(config), {})
    assert found.is_blessed
    assert found.reasons == (other.obstacle,)


def test_a_champion_whose_files_are_gone_counts_by_what_was_measured_of_it(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path], tmp_path: Path
) -> None:
    """Its package is there, its model is not: as when somebody made room on the disk."""
    for recorded, is_blessed in ((0.5, True), (1.01, False)):
        gone = Champion(3, tmp_path / "model", recorded={"auc": recorded})
        strict = without_thresholds(config, margin=0.0)
        found = bless(models["trained"], gone, test_split, strict, {})
        assert found.is_blessed == is_blessed
        assert "version 3 cannot be compared with: " in found.reasons[-1]
        assert "not a SavedModel: no such directory; its auc was" in found.reasons[-1]
        assert found.champion_metrics == {}


def test_a_champion_that_fails_on_a_row_of_today_does_not_end_the_run(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path], tmp_path: Path
) -> None:
    champion = Champion(3, _failing(models["trained"], tmp_path / "failing"))
    found = bless(models["trained"], champion, test_split, without_thresholds(config), {})
    assert found.is_blessed
    assert "version 3 cannot be compared with: " in found.reasons[-1]
    assert "no such colour" in found.reasons[-1]


def _failing(source: Path, target: Path) -> Path:
    """Save a model's signatures once more, so that every call of them fails."""
    loaded = load(source)

    def failing(name: str) -> Any:
        def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.debugging.Assert(False, ["no such colour"])]):
                return {n: tf.identity(o) for n, o in loaded.signature(name)(**inputs).items()}

        return tf.function(call, autograph=False).get_concrete_function(**loaded.input_specs(name))

    module = tf.Module()
    module.original = loaded.module
    signatures = {name: failing(name) for name in loaded.module.signatures}
    tf.saved_model.save(module, str(target), signatures)
    return target


def test_a_metric_of_the_user_can_decide(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    def caught(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
        return float(np.mean(scores[labels == 1, 1]))

    own = {"is_large": {"caught": caught}}
    by_own = without_thresholds(config, metric="caught", thresholds={"caught": 0.5})
    found = bless(models["trained"], Champion(2, models["untrained"]), test_split, by_own, own)
    assert found.is_blessed
    assert "caught is" in found.reasons[-1]


def test_signatures_that_disagree_are_refused(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path]
) -> None:
    class Shifted(TestSplit):
        def batches(self) -> Iterator[tuple[RawColumns, list[bytes]]]:
            for columns, examples in super().batches():
                yield columns, [*examples[1:], examples[0]]

    with pytest.raises(DataError, match="serving_default and serving_examples differ by"):
        ask(models["trained"], Shifted(test_split.shards, config))


def test_an_empty_test_split_is_refused(config: PipelineConfig) -> None:
    with pytest.raises(DataError, match="split 'test' has no rows"):
        TestSplit.find([], config)


def test_each_head_has_a_picture(
    config: PipelineConfig, test_split: TestSplit, models: dict[str, Path], tmp_path: Path
) -> None:
    axes = {}
    for head, answers in ask(models["trained"], test_split).items():
        curves = curves_of(config.heads[head].task, answers)
        axes[head] = draw(config.heads[head], curves, head).axes
    assert [one.get_title() for one in axes["is_large"]] == [
        "Confusion matrix",
        "ROC, class yes",
        "Precision and recall, class yes",
        "Reliability",
    ]
    assert [one.get_xlabel() for one in axes["price"]] == ["mean prediction"]


def test_weights_are_ones_where_the_data_has_none(
    test_split: TestSplit, models: dict[str, Path]
) -> None:
    columns, _ = next(test_split.batches())
    assert columns.weights is None
    answers = ask(models["trained"], test_split)["is_large"]
    assert answers.weights.tolist() == [1.0] * len(answers.labels)


def test_a_checkpoint_without_a_verdict_is_said_and_nothing_is_chosen(
    own_run: RunLayout, component: Any
) -> None:
    """As when training was cleared, and went on, after the evaluation had ended."""
    own_run.result("bless").unlink()
    path = own_run.result("evaluate")
    result = Result.read(path)
    detail = {**result.detail, "steps": [60], "best_step": 60}
    result.model_copy(update={"detail": detail}).write(path)
    code, said = component(own_run, "bless")
    assert code == 2, said
    assert "checkpoints 120 have no verdict" in said
    assert "clear 'evaluate', too" in said
