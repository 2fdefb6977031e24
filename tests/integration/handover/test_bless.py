"""The verdict on a trained run: thresholds, the serving version, and the rows they share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.bless.answers import TestPart, ask
from components.bless.bless import Judgement, bless
from components.bless.candidate import export_candidate
from components.bless.champion import Champion
from components.bless.figures import draw
from components.models import build_model
from components.raw_examples import RawColumns
from components.saved_models import export
from contract.errors import DataError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records import IngestRecord, Result, TransformRecord
from contract.schema import BlessConfig, PipelineConfig

Judge = Callable[[Path, Path], Judgement]


@pytest.fixture(scope="module")
def config(trained_run: RunLayout) -> PipelineConfig:
    return load_frozen(trained_run)


@pytest.fixture(scope="module")
def test_part(trained_run: RunLayout, config: PipelineConfig) -> TestPart:
    record = Result.read(trained_run.result("ingest")).detail_as(IngestRecord)
    shards = [trained_run.step("ingest") / shard for shard in record.shards["test"]]
    return TestPart.read(shards, config)


@pytest.fixture(scope="module")
def models(
    trained_run: RunLayout, config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The trained model, and the same network untrained."""
    folder = tmp_path_factory.mktemp("models")
    record = Result.read(trained_run.result("transform")).detail_as(TransformRecord)
    export_candidate(trained_run, config, record, folder / "trained")
    graph = trained_run.step("transform") / record.transform_graph
    fresh = build_model(config, trained_run.frozen_pipeline, graph)
    export(config, graph, fresh, folder / "untrained")
    return {"trained": folder / "trained", "untrained": folder / "untrained"}


def without_thresholds(config: PipelineConfig, **changes: object) -> PipelineConfig:
    settings = BlessConfig(metric="auc", head="is_large", margin=0.05)
    return config.model_copy(update={"bless": settings.model_copy(update=changes)})


def test_a_worse_model_is_refused_as_a_result(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["trained"])
    found = bless(models["untrained"], champion, test_part, without_thresholds(config), {})
    assert not found.is_blessed
    assert "worse than version 7's" in found.reasons[-1]
    assert found.metrics["is_large"]["auc"].value < found.champion_metrics["is_large"]["auc"].value


def test_an_equal_model_is_accepted(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["trained"])
    found = bless(models["trained"], champion, test_part, without_thresholds(config), {})
    assert found.is_blessed
    assert "equal to version 7's" in found.reasons[-1]


def test_a_better_model_is_accepted_whatever_the_margin(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    champion = Champion(7, models["untrained"])
    strict = without_thresholds(config, margin=0.0)
    assert bless(models["trained"], champion, test_part, strict, {}).is_blessed


def test_both_models_answer_the_same_rows(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    """The reported difference is that of the two models' AUCs over one set of rows."""
    by_accuracy = without_thresholds(config, metric="accuracy")
    champion = Champion(1, models["untrained"])
    found = bless(models["trained"], champion, test_part, by_accuracy, {})
    labels = test_part.columns.labels["is_large"]
    right = [
        np.mean(ask(models[name], test_part, config)["is_large"].scores.argmax(axis=1) == labels)
        for name in ("trained", "untrained")
    ]
    assert f"is {right[0] - right[1]:.4g} better than version 1's" in found.reasons[-1]
    assert f"on the same {len(labels)} test rows" in found.reasons[-1]


def test_with_nothing_serving_thresholds_decide(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    nobody = Champion(None, None, "nothing to compare with: no version is serving")
    asked = {"thresholds": {"auc": 0.9}}
    good = bless(models["trained"], nobody, test_part, without_thresholds(config, **asked), {})
    assert good.is_blessed
    assert good.reasons[-1].startswith("nothing to compare with")
    bad = bless(models["untrained"], nobody, test_part, without_thresholds(config, **asked), {})
    assert not bad.is_blessed
    assert "at least 0.9 is asked: not met" in bad.reasons[0]


def test_a_champion_that_cannot_be_compared_leaves_the_thresholds(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    other = Champion(3, None, "version 3 cannot be compared with: its inputs differ (colour)")
    found = bless(models["trained"], other, test_part, without_thresholds(config), {})
    assert found.is_blessed
    assert found.reasons == (other.obstacle,)


def test_a_metric_of_the_user_can_decide(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    def caught(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
        return float(np.mean(scores[labels == 1, 1]))

    own = {"is_large": {"caught": caught}}
    by_own = without_thresholds(config, metric="caught", thresholds={"caught": 0.5})
    found = bless(models["trained"], Champion(2, models["untrained"]), test_part, by_own, own)
    assert found.is_blessed
    assert "caught is" in found.reasons[-1]


def test_signatures_that_disagree_are_refused(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path]
) -> None:
    shifted = replace(test_part, examples=[*test_part.examples[1:], test_part.examples[0]])
    with pytest.raises(DataError, match="serving_default and serving_examples differ by"):
        ask(models["trained"], shifted, config)


def test_an_empty_test_part_is_refused(config: PipelineConfig) -> None:
    with pytest.raises(DataError, match="part 'test' has no rows"):
        TestPart.read([], config)


def test_each_head_has_a_picture(
    config: PipelineConfig, test_part: TestPart, models: dict[str, Path], tmp_path: Path
) -> None:
    answers = ask(models["trained"], test_part, config)
    confusion, roc = draw("is_large", config.heads["is_large"], answers["is_large"]).axes
    assert confusion.get_xlabel() == "Predicted label"
    assert "positive class yes" in roc.get_title()
    (scatter,) = draw("price", config.heads["price"], answers["price"]).axes
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("true", "predicted")


def test_weights_are_ones_where_the_data_has_none(test_part: TestPart) -> None:
    columns: RawColumns = test_part.columns
    assert columns.weights is None
    assert test_part.weights.tolist() == [1.0] * len(columns)
