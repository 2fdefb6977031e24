"""Labels by request against prediction logs on disk: what follows for the version in service."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from components.deploy.labelled.answers import read_labels
from components.deploy.labelled.verdict import judge_labels, rollback_by_labels
from contract.errors import DataError, UserError
from contract.layout import PipelineLayout
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import PackageManifest, Provenance
from contract.records.quality import LabelVerdict
from contract.records.traffic import Arm, ChampionChange, TrafficPlan
from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig
from contract.schema.serving import ServeConfig

NOW = datetime(2026, 11, 29, 15, tzinfo=UTC)
HEADER = "request_id,row,label\n"
PLAN = TrafficPlan(
    pipeline="digits",
    generation=7,
    arms=(Arm(name="stable", version=2, weight_percent=100),),
    standby=(1,),
    champions=(ChampionChange(version=1), ChampionChange(version=2, previous=1)),
)


def config(**deploy: object) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "digits",
            "features": {"image": {"dtype": "float32", "shape": (64,)}},
            "heads": {"label": {"task": "binary_classification", "classes": ("a", "b")}},
            "ingest": {"source": {"kind": "sklearn", "dataset": "digits"}},
            "deploy": deploy,
        }
    )


def log(
    layout: PipelineLayout,
    version: int,
    predicted: Sequence[int],
    arm: str = "stable",
    rows: int = 1,
) -> None:
    """Write a log of one prediction a request: `v<version>-<arm>-<number>`, a minute apart."""
    table = pa.Table.from_pylist(
        [
            {
                "time": NOW + timedelta(minutes=number), "request_id": f"v{version}-{arm}-{number}",
                "row": row, "version": version, "arm": arm, "signature": "serving_default",
                "status": 200, "latency_seconds": 0.1, "predicted:label": one,
            }
            for number, one in enumerate(predicted)
            for row in range(rows)
        ],
        log_schema(config().heads),
    )  # fmt: skip
    file = LogFile(hour_of(NOW), f"h-1-{arm}", 0, len(table), layout.predictions(version))
    write_rows(file, table)


def truth(path: Path, *lines: str, header: str = HEADER) -> Path:
    file = path / "truth.csv"
    file.write_text(header + "".join(f"{line}\n" for line in lines))
    return file


def all_a(version: int, count: int, arm: str = "stable") -> list[str]:
    return [f"v{version}-{arm}-{number},0,a" for number in range(count)]


def judged(layout: PipelineLayout, file: Path, plan: TrafficPlan = PLAN) -> LabelVerdict:
    return judge_labels(layout, config(), plan, file, NOW)


def test_a_version_that_labels_show_to_be_worse_is_rolled_back(layout, tmp_path):
    log(layout, 1, [0] * 190 + [1] * 10)  # 95 %
    log(layout, 2, [0] * 140 + [1] * 60)  # 70 %
    verdict = judged(layout, truth(tmp_path, *all_a(1, 200), *all_a(2, 200)))
    assert (verdict.decision, verdict.decided_by) == ("rollback", "label")
    (test,) = verdict.tests
    assert (test.version.accuracy, test.before.accuracy) == (0.7, 0.95)
    assert (test.version.requests, test.before.requests, verdict.labels) == (200, 200, 400)
    assert test.evidence >= test.bound == 100.0
    assert test.version.high < test.before.low
    assert test.version.last == NOW + timedelta(minutes=199)
    assert "version 2 is right in 70.0% of 200 labelled requests" in verdict.reason
    assert "from 100 on it is rolled back" in verdict.reason


def test_a_version_with_its_classes_in_another_order_is_not_judged(layout, tmp_path):
    """The log says 0 for a class that the config now has at 1."""
    log(layout, 1, [0] * 200)
    log(layout, 2, [0] * 200)
    PackageManifest(
        pipeline="digits",
        version=2,
        created_at=NOW,
        digest="sha256:0",
        inputs={},
        heads={"label": HeadConfig(task="binary_classification", classes=("b", "a"))},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(2))
    with pytest.raises(UserError, match="version 2 has b, a, found a, b in the config"):
        judged(layout, truth(tmp_path, *all_a(1, 200), *all_a(2, 200)))


def test_the_roll_back_says_which_figures_decided(layout, tmp_path):
    log(layout, 1, [0] * 200)
    log(layout, 2, [1] * 200)
    verdict = judged(layout, truth(tmp_path, *all_a(1, 200), *all_a(2, 200)))
    for version in (1, 2):
        folder = layout.version(version)
        folder.mkdir(parents=True)
        (folder / "package.json").touch()
    move = rollback_by_labels(PLAN, layout, verdict, "ada")
    assert [(arm.version, arm.weight_percent) for arm in move.proposal.arms] == [(1, 100)]
    assert (move.proposal.generation, move.proposal.author) == (7, "ada")
    (mark,) = move.proposal.bad
    assert mark.version == 2
    for text in (mark.reason, move.proposal.reason):
        assert text.startswith("rolled back by labels: label: version 2 is right in 0.0% of 200")
    assert "all traffic goes from version 2 to version 1" in move.words


def test_a_version_as_good_as_the_one_before_stays(layout, tmp_path):
    log(layout, 1, [0] * 180 + [1] * 20)
    log(layout, 2, [0] * 178 + [1] * 22)
    verdict = judged(layout, truth(tmp_path, *all_a(1, 200), *all_a(2, 200)))
    assert (verdict.decision, verdict.decided_by) == ("continue", "")
    assert "a roll-back needs 100" in verdict.reason
    with pytest.raises(UserError, match="the labels call for no roll-back"):
        rollback_by_labels(PLAN, layout, verdict, "ada")


def test_what_a_shadow_said_or_somebody_asked_by_number_does_not_count(layout, tmp_path):
    log(layout, 1, [0] * 10)
    for arm in ("shadow", ""):
        log(layout, 2, [1] * 50, arm=arm)
    log(layout, 2, [0] * 5, arm="canary")
    lines = [*all_a(1, 10), *all_a(2, 50, "shadow"), *all_a(2, 50, ""), *all_a(2, 5, "canary")]
    verdict = judged(layout, truth(tmp_path, *lines))
    assert verdict.tests[0].version.requests == 5
    assert verdict.tests[0].version.accuracy == 1.0
    assert verdict.unknown == 100


def test_the_rows_of_a_request_count_as_one(layout, tmp_path):
    log(layout, 1, [0] * 3)
    log(layout, 2, [0, 1], rows=10)
    lines = [f"v2-stable-{number},{row},a" for number in range(2) for row in range(10)]
    (test,) = judged(layout, truth(tmp_path, *all_a(1, 3), *lines)).tests
    assert (test.version.requests, test.version.accuracy) == (2, 0.5)


def test_a_label_weighs_what_its_choice_was_worth(layout, tmp_path):
    log(layout, 1, [0] * 2)
    log(layout, 2, [0, 1])
    lines = ["v2-stable-0,0,a,0.1", "v2-stable-1,0,a,1", "v1-stable-0,0,a,1"]
    header = "request_id,row,label,probability\n"
    chosen = config(label_least_probability=0.1)
    path = truth(tmp_path, *lines, header=header)
    (test,) = judge_labels(layout, chosen, PLAN, path, NOW).tests
    # 10 x right and 1 x wrong
    assert test.version.accuracy == pytest.approx(10 / 11, abs=1e-6)


def test_rows_that_say_nothing_are_counted_and_left_out(layout, tmp_path):
    file = truth(
        tmp_path,
        *("x,0,a", "x,0,a", "y,0,a", "y,0,b", "y,0,a", "z,0,c", "z,one,a", ",0,a", "w,0,a,0"),
        f"z,{'9' * 5_000},a",
        header="request_id,row,label,probability\n".replace(",probability", ""),
    )
    labels = read_labels(file, config())
    assert list(labels.found) == [("x", 0)]
    # y three times, z three times, one without an id, one with too many cells
    assert labels.bad == 8


@pytest.mark.parametrize("probability", ["0", "1.5", "-1", "half", "", "nan"])
def test_a_probability_that_is_none_is_bad(tmp_path, probability):
    lines = [f"x,0,a,{probability}", "y,0,a,1"]
    labels = read_labels(
        truth(tmp_path, *lines, header="request_id,row,label,probability\n"), config()
    )
    assert (list(labels.found), labels.bad) == ([("y", 0)], 1)


@pytest.mark.parametrize(("least", "probability"), [(1.0, 0.5), (0.25, 0.2)])
def test_a_row_chosen_more_rarely_than_configured_is_refused(tmp_path, least, probability):
    header, lines = "request_id,row,label,probability\n", ["x,0,a,1", f"y,3,a,{probability}"]
    path = truth(tmp_path, *lines, header=header)
    with pytest.raises(UserError, match=f"row 3 of request 'y' was chosen with .* {probability}"):
        read_labels(path, config(label_least_probability=least))
    assert len(read_labels(path, config(label_least_probability=probability)).found) == 2


def test_a_consensus_without_the_probability_of_each_choice_is_refused(tmp_path):
    header, line = "request_id,row,label,confidence", "x,0,a,0.99"
    with pytest.raises(DataError, match="expected a column 'probability' beside 'confidence'"):
        read_labels(truth(tmp_path, line, header=f"{header}\n"), config())
    whole = truth(tmp_path, f"{line},1", header=f"{header},probability\n")
    assert list(read_labels(whole, config()).found) == [("x", 0)]


def test_a_file_without_a_valid_row_is_refused(tmp_path):
    with pytest.raises(DataError, match="none of 1 rows is valid; expected a request's id"):
        read_labels(truth(tmp_path, "x,0,c"), config())


def test_a_file_that_lacks_the_label_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing columns: 'label'"):
        read_labels(truth(tmp_path, "x,0", header="request_id,row\n"), config())


def test_a_pipeline_of_numbers_has_no_right_answers(layout, tmp_path):
    heads = {"price": {"task": "regression"}}
    numbers = PipelineConfig.model_validate(config().model_dump() | {"heads": heads})
    with pytest.raises(UserError, match="all heads are regressions"):
        judge_labels(layout, numbers, PLAN, truth(tmp_path, "x,0,a"), NOW)


def test_without_an_earlier_champion_there_is_nothing_to_compare_with(layout, tmp_path):
    first = PLAN.model_copy(update={"champions": (), "standby": ()})
    with pytest.raises(UserError, match="version 2 is in service and has no earlier champion"):
        judged(layout, truth(tmp_path, "x,0,a"), first)


def test_labels_wait_for_the_end_of_a_trial(layout, tmp_path):
    arms = (
        Arm(name="stable", version=2, weight_percent=95),
        Arm(name="canary", version=3, weight_percent=5),
    )
    on_trial = PLAN.model_copy(update={"arms": arms})
    with pytest.raises(UserError, match="version 3 is on trial; labels are judged when"):
        judged(layout, truth(tmp_path, "x,0,a"), on_trial)


def test_a_verdict_on_other_versions_rolls_nothing_back(layout, tmp_path):
    log(layout, 1, [0] * 200)
    log(layout, 2, [1] * 200)
    verdict = judged(layout, truth(tmp_path, *all_a(1, 200), *all_a(2, 200)))
    changes = (*PLAN.champions, ChampionChange(version=3, previous=2))
    arms = (Arm(name="stable", version=3, weight_percent=100),)
    later = PLAN.model_copy(update={"champions": changes, "arms": arms})
    with pytest.raises(UserError, match="version 3 is in service by now, and version 2 was"):
        rollback_by_labels(later, layout, verdict, "ada")
