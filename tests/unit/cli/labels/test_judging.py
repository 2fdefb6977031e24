"""The version in service is judged by what people have answered, beside the champion before it."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from label_turns import (
    NAME,
    NOW,
    PEOPLE,
    answer_all,
    configure,
    database,
    log_rows,
    slipway,
    turn,
)

from cli.labels.judging import audit_labels
from cli.labels.learning import settled
from components.deploy.labelled.verdict import judge_labels
from components.labels.labels import list_labels
from contract.layout import PipelineLayout
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.records.quality import LabelVerdict
from contract.records.traffic import Arm, ChampionChange, TrafficPlan
from serving.labels.store.exchange import stored_questions
from serving.labels.store.questions import topic_id
from serving.labels.store.records import Answered


def two_champions(layout: PipelineLayout, wrong: int) -> None:
    """Log version 2, wrong in so many of 60 rows, as champion after version 1 with 50 of them."""
    log_rows(layout, "b", 30, NOW + timedelta(minutes=1))
    log_rows(layout, "c", 60, NOW + timedelta(minutes=5), wrong, version=2)
    TrafficPlan(
        pipeline=NAME,
        arms=(Arm(name="stable", version=2, weight_percent=100),),
        standby=(1,),
        champions=(ChampionChange(version=1), ChampionChange(version=2, previous=1)),
    ).write(layout.traffic_plan)


def test_people_who_show_a_version_to_be_worse_give_the_verdict_of_a_file_of_labels(
    layout: PipelineLayout, pipelines: Path, tmp_path: Path
) -> None:
    """By a second way: `judge labels` reads the same labels, of rows that were all chosen."""
    two_champions(layout, wrong=45)
    configure(pipelines, budget=500, audit_ratio=1.0, min_labels=1_000)
    turn("--only", "harvest")
    for who in PEOPLE:
        answer_all(who)
    found = turn("--only", "learn")["learn"]
    verdict = LabelVerdict.read(layout.label_verdict)
    (test,) = verdict.tests
    assert (test.version.accuracy, test.version.requests) == (0.25, 60)
    assert (test.before.accuracy, test.before.requests) == (1.0, 50)
    assert (verdict.decision, found["is_worse"]) == ("rollback", True)
    assert found["verdict"] == (
        f"{verdict.reason}; 'slipway rollback looping' does it, as labels.rolls_back is false"
    )
    config, truth = load_pipeline(find_pipeline(NAME)), tmp_path / "truth.csv"
    store = database()
    lines = [
        f"{one.request_id},{one.row},{int(one.inputs['image'][0][0])}"
        for one in stored_questions(store, topic_id(store, NAME)[0])
    ]
    truth.write_text("\n".join([f"request_id,row,{config.label_column('digit')}", *lines]))
    plan = TrafficPlan.read(layout.traffic_plan)
    by_file = judge_labels(layout, config, plan, truth, verdict.judged_at)
    assert by_file == verdict

    trial = Arm(name="canary", version=3, weight_percent=100)
    arms = (plan.arms[0].model_copy(update={"weight_percent": 0}), trial)
    plan.model_copy(update={"arms": arms}).write(layout.traffic_plan)
    assert turn("--only", "learn")["learn"]["verdict"] == ""  # during a trial nobody judges


def test_a_version_that_is_as_good_by_people_stays(layout: PipelineLayout, pipelines: Path) -> None:
    two_champions(layout, wrong=0)
    configure(pipelines, budget=500, audit_ratio=1.0, min_labels=1_000, rolls_back=True)
    turn("--only", "harvest")
    for who in PEOPLE:
        answer_all(who)
    found = turn("--only", "learn")["learn"]
    assert not found["is_worse"]
    assert found["verdict"].startswith("digit: version 2 is right in 100.0% of 60 labelled")
    assert found["verdict"].endswith("that it is worse by more than 1.0%, a roll-back needs 100")


def test_what_has_turned_out_to_be_true_judges_without_an_answer_by_people(
    layout: PipelineLayout, pipelines: Path, tmp_path: Path
) -> None:
    two_champions(layout, wrong=45)
    configure(pipelines, budget=1, min_labels=1_000)
    turn("--only", "harvest")
    assert turn("--only", "learn")["learn"]["verdict"] == ""
    file, exported = tmp_path / "outcomes.csv", tmp_path / "truth.csv"
    rows = [("b", n) for n in range(30)] + [("c", n) for n in range(60)]
    lines = [f"{server}{n},0,{n % 10}" for server, n in rows]
    file.write_text("\n".join(["request_id,row,label", "later,0,1", *lines]))
    said = slipway("truth", NAME, str(file)).output
    assert said.startswith("91 labels, 0 corrected, 0 known already, 0 refused")

    found = turn("--only", "learn")["learn"]
    assert (found["answers"], found["is_worse"]) == (0, True)
    assert found["verdict"].startswith("digit: version 2 is right in 25.0% of 60 labelled requests")
    verdict = LabelVerdict.read(layout.label_verdict)
    slipway("export", NAME, "--format", "truth", "--out", str(exported))
    plan, config = TrafficPlan.read(layout.traffic_plan), load_pipeline(find_pipeline(NAME))
    by_file = judge_labels(layout, config, plan, exported, verdict.judged_at)
    assert by_file.tests == verdict.tests
    slipway("add", NAME, str(exported))  # the same file teaches: joined with the logged inputs
    assert list_labels(layout, config)[0].added == 90


def test_a_row_weighs_as_an_audit_of_all_requests_would_have_it(
    layout: PipelineLayout, pipelines: Path
) -> None:
    two_champions(layout, wrong=45)
    configure(pipelines, budget=60, audit_ratio=0.2, min_labels=1_000)
    turn("--only", "harvest")
    for who in PEOPLE:
        answer_all(who)
    turn("--only", "learn")
    store = database()
    rows = [one for one in stored_questions(store, topic_id(store, NAME)[0]) if one.version == 2]
    weights = np.array([one.audit_probability / one.probability for one in rows])
    assert 0 < weights.min() < weights.max() <= 1
    right = np.array([one.guesses[0][0] == str(int(one.inputs["image"][0][0])) for one in rows])
    (test,) = LabelVerdict.read(layout.label_verdict).tests
    assert test.version.requests == len(rows)
    assert test.version.accuracy == pytest.approx(weights @ right / weights.sum(), abs=1e-6)


def test_rows_without_all_their_answers_and_gold_rows_judge_no_version(
    layout: PipelineLayout, pipelines: Path
) -> None:
    two_champions(layout, wrong=45)
    configure(pipelines, budget=500, audit_ratio=1.0, min_labels=1_000)
    turn("--only", "harvest")
    answer_all("ada")  # of two people
    found = turn("--only", "learn")["learn"]
    assert (found["answers"], found["verdict"]) == (110, "")
    gold = Answered(
        question=1,
        request_id="x",
        row=0,
        labeller="ada",
        label="3",
        gold="3",
        version=2,
        probability=1.0,
        audit_probability=0.0,
        is_audit=False,
        answered_at=0.0,
        is_closed=True,
    )
    config = load_pipeline(find_pipeline(NAME))
    assert audit_labels(config, "digit", [gold], settled([gold], ("3", "4"))).found == {}
    assert not layout.label_verdict.exists()
