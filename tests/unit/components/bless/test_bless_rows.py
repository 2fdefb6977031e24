"""Blessings that were once wrong: too few rows of a class, losses that add up, other inputs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.bless.answers import TestSplit
from components.bless.champion import Champion
from components.bless.comparison import Comparison
from components.bless.slices import on_slices, rows_by_slice
from components.bless.verdict import Asked, against_record, on_other_head, too_few_of_a_class
from components.data.raw_examples import RawColumns
from components.quality.metrics import Answers
from components.runs import retention
from components.runs.champions import best_kept
from contract.layout import PipelineLayout
from contract.records.evaluation import Metric
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Arm, BadVersion, ChampionChange, TrafficPlan
from contract.schema.pipeline import PipelineConfig, RetentionConfig
from contract.schema.training import BlessConfig

CONFIG = PipelineConfig.model_validate(
    {
        "name": "tiny",
        "features": {"x": {"dtype": "float32"}},
        "heads": {"y": {"task": "binary_classification", "classes": ("a", "b")}},
        "ingest": {"source": {"kind": "csv", "files": ("data.csv",)}},
    }
)


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "tiny")


def keep(layout: PipelineLayout, version: int, accuracy: float, **changes: Any) -> None:
    """Keep a version that was compared with the one before it."""
    manifest = PackageManifest(
        pipeline="tiny",
        version=version,
        created_at=datetime.now(UTC),
        digest="",
        inputs={name: InputSpec.of(feature) for name, feature in CONFIG.features.items()},
        heads=CONFIG.heads,
        serve=CONFIG.serve,
        metrics={"accuracy": accuracy},
        compared_with_version=version - 1 if version > 1 else None,
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )
    manifest.model_copy(update=changes).write(layout.version(version) / "package.json")


# --- 14: one positive of 500 --------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "is_compared"), [(1, False), (29, False), (30, True)])
def test_14_auc_needs_a_stated_number_of_each_class(positives: int, is_compared: bool) -> None:
    labels = np.repeat([0, 1], [500 - positives, positives])
    finding = too_few_of_a_class(labels, ("no", "yes"), "auc", BlessConfig())
    assert (finding is None) == is_compared
    if finding is not None:
        assert not finding.has_passed
        assert f"class 'yes' has {positives} of 500 test rows, at least 30" in finding.reason


def test_14_a_class_without_a_single_row_is_named() -> None:
    labels = np.zeros(500)
    finding = too_few_of_a_class(labels, ("no", "yes"), "recall", BlessConfig())
    assert finding is not None
    assert "class 'yes' has 0 of 500" in finding.reason


def test_14_figures_over_all_rows_need_no_number_of_each_class() -> None:
    labels = np.repeat([0, 1], [499, 1])
    assert too_few_of_a_class(labels, ("no", "yes"), "accuracy", BlessConfig()) is None


# --- 15: small losses add up --------------------------------------------------------------------


def test_15_the_best_champion_before_is_compared_with_as_well(layout: PipelineLayout) -> None:
    for version in range(1, 31):  # 30 retrainings, each a little worse than the one before
        keep(layout, version, 0.95 - 0.0015 * version)
    champion = Champion.find(layout, 30, CONFIG)
    assert champion.best is not None
    assert champion.best.version == 1
    assert champion.best.model == layout.version(1) / "model"


def test_15_a_champion_that_is_the_best_itself_is_compared_with_once(
    layout: PipelineLayout,
) -> None:
    keep(layout, 1, 0.90)
    keep(layout, 2, 0.95)
    assert Champion.find(layout, 2, CONFIG).best is None


def test_15_of_a_loss_the_best_is_the_least(layout: PipelineLayout) -> None:
    for version, loss in ((1, 0.2), (2, 0.1), (3, 0.3)):
        keep(layout, version, 0.0, metrics={"log_loss": loss})
    bless = CONFIG.bless.model_copy(update={"metric": "log_loss"})
    best = Champion.find(layout, 3, CONFIG.model_copy(update={"bless": bless})).best
    assert best is not None
    assert best.version == 2


def test_15_the_chain_ends_where_a_version_is_no_longer_kept(layout: PipelineLayout) -> None:
    keep(layout, 1, 0.99)
    keep(layout, 3, 0.95)
    keep(layout, 4, 0.94)
    best = Champion.find(layout, 4, CONFIG).best
    assert best is not None
    assert best.version == 3


def champions(*versions: int, bad: tuple[int, ...] = ()) -> TrafficPlan:
    """Return the plan of what was champion, one after the other."""
    return TrafficPlan(
        pipeline="tiny",
        arms=(Arm(name="stable", version=versions[-1], weight_percent=100),),
        champions=tuple(ChampionChange(version=version) for version in versions),
        bad=tuple(BadVersion(version=version) for version in bad),
    )


def test_15_the_best_is_kept_however_old_and_compared_with_over_a_gap(
    layout: PipelineLayout,
) -> None:
    for version in range(1, 31):
        keep(layout, version, 0.99 if version == 4 else 0.95 - 0.0015 * version)
    plan = champions(*range(1, 31))
    plan.write(layout.traffic_plan)
    best = best_kept(layout, plan, CONFIG)
    retention.apply(layout, RetentionConfig(versions=5), plan, datetime.now(UTC), best)
    assert layout.kept_versions() == [4, 26, 27, 28, 29, 30]
    champion = Champion.find(layout, 30, CONFIG)
    assert champion.best is not None
    assert champion.best.version == 4


def test_15_a_version_that_was_rolled_back_is_not_the_best(layout: PipelineLayout) -> None:
    for version, accuracy in ((1, 0.95), (2, 0.99), (3, 0.94)):
        keep(layout, version, accuracy, compared_with_version=None)
    champions(1, 2, 3, bad=(2,)).write(layout.traffic_plan)
    best = Champion.find(layout, 3, CONFIG).best
    assert best is not None
    assert best.version == 1


def test_15_of_nothing_in_service_nothing_is_the_best(layout: PipelineLayout) -> None:
    assert best_kept(layout, TrafficPlan(pipeline="tiny"), CONFIG) == set()
    assert best_kept(layout, champions(7), CONFIG) == set()  # its package is gone
    keep(layout, 7, 0.9)
    assert best_kept(layout, champions(7), CONFIG) == set()  # it is the best itself


def test_15_a_champion_with_other_inputs_still_counts_by_its_figures(
    layout: PipelineLayout,
) -> None:
    keep(layout, 1, 0.95, inputs={"z": InputSpec(dtype="string")})
    champion = Champion.find(layout, 1, CONFIG)
    assert champion.model is None
    assert champion.recorded == {"accuracy": 0.95}
    settings = BlessConfig(margin=0.01)
    for value, has_passed in ((0.945, True), (0.93, False)):
        ours = Metric(value=value, low=0.9, high=0.97)
        found = against_record(ours, champion.recorded["accuracy"], champion.obstacle, settings)
        assert found.has_passed == has_passed
        assert "its inputs differ (x, z); its accuracy was 0.95" in found.reason
    undefined = against_record(None, 0.95, champion.obstacle, settings)
    assert not undefined.has_passed
    assert "accuracy is undefined" in undefined.reason


def test_15_with_nothing_recorded_the_thresholds_decide() -> None:
    found = against_record(None, None, "nothing to compare with", BlessConfig())
    assert found.has_passed
    assert found.reason == "nothing to compare with"


def test_15_another_head_that_is_shown_to_be_worse_refuses() -> None:
    asked = Asked("accuracy", 0.01)
    worse = on_other_head("side", Comparison(-0.05, -0.07, 0.02), 3, asked, 0.95)
    unsure = on_other_head("side", Comparison(-0.05, -0.1, 0.05), 3, asked, 0.95)
    assert (worse.has_passed, unsure.has_passed) == (False, True)
    assert "head 'side': accuracy differs by -0.05 from version 3's" in worse.reason
    assert "a loss beyond the margin is shown" in worse.reason


def answers(labels: Any, right: Any) -> Answers:
    """Return answers that are right, with a probability of 0.9, where `right` says so."""
    chosen = np.where(right, labels, 1 - labels)
    scores = np.where(np.arange(2) == chosen[:, None], 0.9, 0.1)
    return Answers(labels, scores, np.ones(len(labels)))


def test_15_a_slice_on_which_a_candidate_is_shown_to_be_worse_refuses() -> None:
    """Equal over all 1,000 rows: 40 of 100 lost in one town are 40 of 900 won in the other."""
    labels, rows = np.arange(1000) % 2, np.arange(1000)
    ours = answers(labels, rows >= 40)
    theirs = answers(labels, rows < 960)
    slices = {"town": {"a": rows[:100], "b": rows[100:980], "c": rows[980:]}}
    findings = list(on_slices((ours, theirs), slices, 3, CONFIG))
    assert [finding.has_passed for finding in findings] == [False, True]  # c has 20 rows
    assert findings[0].reason == (
        "slice town=a: accuracy differs by -0.4 from version 3's on 100 test rows, margin 0.01: a "
        "loss beyond the margin is shown"
    )
    wide = CONFIG.bless.model_copy(update={"slice_margins": {"town": 0.6}})
    config = CONFIG.model_copy(update={"bless": wide})
    assert all(finding.has_passed for finding in on_slices((ours, theirs), slices, 3, config))
    assert list(on_slices((ours, theirs), {}, 3, CONFIG)) == []


def test_15_many_slices_share_one_chance_of_a_wrong_refusal() -> None:
    """Eight lost of fifty: shown at 95 % confidence, not at 1 - 5 % / 20."""
    labels = np.arange(1000) % 2
    ours, theirs = answers(labels, np.arange(1000) >= 8), answers(labels, labels >= 0)
    first = {"0": np.arange(50)}
    rest = {str(n): np.arange(50 * n, 50 * n + 50) for n in range(1, 20)}
    alone = [f.has_passed for f in on_slices((ours, theirs), {"x": first}, 3, CONFIG)]
    among = [f.has_passed for f in on_slices((ours, theirs), {"x": first | rest}, 3, CONFIG)]
    assert alone == [False]
    assert among == [True] * 20


def test_15_the_rows_of_a_slice_are_found_over_all_batches() -> None:
    class Rows(TestSplit):
        def batches(self) -> Iterator[tuple[RawColumns, list[bytes]]]:
            for towns, sizes in (((b"a", b"b"), (1, 2)), ((b"a", b"c"), (1, 1))):
                columns = {"town": np.array(towns, object), "size": np.array(sizes)}
                yield RawColumns(columns, {}, np.array([b"", b""], object), None), []

    changes = {"slices": ("town", "size")}
    config = CONFIG.model_copy(update={"evaluate": CONFIG.evaluate.model_copy(update=changes)})
    found = rows_by_slice(Rows((), config))
    assert {f"{f}={v}": rows.tolist() for f, by in found.items() for v, rows in by.items()} == {
        "town=a": [0, 2],
        "town=b": [1],
        "town=c": [3],
        "size=1": [0, 2, 3],
        "size=2": [1],
    }
    assert rows_by_slice(Rows((), CONFIG)) == {}


def test_15_slice_margins_are_of_declared_slices() -> None:
    with pytest.raises(ValueError, match="bless.slice_margins: 'z' is not in evaluate.slices"):
        PipelineConfig.model_validate(
            {**CONFIG.model_dump(exclude={"bless"}), "bless": {"slice_margins": {"z": 0.1}}}
        )


def test_15_margins_are_of_heads_that_there_are() -> None:
    with pytest.raises(ValueError, match="bless.head_margins: 'z' is not a head"):
        PipelineConfig.model_validate(
            {**CONFIG.model_dump(exclude={"bless"}), "bless": {"head_margins": {"z": 0.1}}}
        )
