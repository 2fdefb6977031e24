"""The label loop by its command: what is logged is asked, what is agreed on is learned, once."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from label_turns import (
    CLASSES,
    LATER,
    NAME,
    NOW,
    PEOPLE,
    answer_all,
    asked,
    configure,
    database,
    log_rows,
    slipway,
    turn,
)

from cli.labels.loop import Loop
from contract.errors import StorageError
from contract.layout import PipelineLayout
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.records.label_loop import HarvestRecord, LabelLoopRecord
from contract.records.traffic import Arm, TrafficPlan
from serving.labels.store.answering import answer as answer_question
from serving.labels.store.answering import answers, undo
from serving.labels.store.exchange import import_answers, stored_questions
from serving.labels.store.questions import add_questions, topic_id
from serving.labels.store.records import NewQuestion, Topic
from serving.labels.store.reviewing import decide, take_back


def test_a_turn_asks_about_what_was_logged_since_the_last_one(layout: PipelineLayout) -> None:
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    first = loop.harvest(LATER)
    assert (first.questions, first.since, first.is_done) == (20, None, True)
    assert {*asked()} == {f"a{n}" for n in range(20)}
    again = loop.harvest(LATER)
    assert (again.questions, again.since) == (0, first.until)

    log_rows(layout, "b", 10, first.until - timedelta(seconds=4))  # b4 is of the new part
    third = loop.harvest(LATER + timedelta(minutes=1))
    assert (third.questions, third.since) == (6, first.until)
    assert {name for name in asked() if name.startswith("b")} == {f"b{n}" for n in range(4, 10)}


def test_what_was_asked_in_an_earlier_turn_is_not_asked_again(layout: PipelineLayout) -> None:
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    loop.harvest(LATER)
    log_rows(layout, "b", 30, LATER, like="a")  # its first twenty pictures are those of before
    assert loop.harvest(LATER + timedelta(hours=1)).batches == 1
    found = asked()
    by_worth = {name for name, is_audit in found.items() if name[0] == "b" and not is_audit}
    assert by_worth >= {f"b{n}" for n in range(20, 30) if not found.get(f"b{n}")}
    assert not by_worth & {f"b{n}" for n in range(20) if not found[f"a{n}"]}


def test_a_turn_asks_about_no_more_rows_of_a_class_than_wished(
    layout: PipelineLayout, pipelines: Path
) -> None:
    log_rows(layout, "b", 60, NOW)
    configure(pipelines, budget=50, per_class=2)
    turn("--only", "harvest")
    store = database()
    rows = [*stored_questions(store, topic_id(store, NAME)[0])]
    asked = Counter(one.guesses[0][0] for one in rows if not one.is_audit)
    assert len(asked) >= 9 and max(asked.values()) <= 3  # 2 on average: its stretch has two ends


def test_rows_of_the_last_seconds_wait_for_the_next_turn(layout: PipelineLayout) -> None:
    log_rows(layout, "b", 1, LATER - timedelta(seconds=9))  # others of then may be written later
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    assert loop.harvest(LATER).questions == 20
    assert "b0" not in asked()
    assert loop.harvest(LATER + timedelta(seconds=2)).questions == 1
    assert "b0" in asked()


@pytest.mark.parametrize("is_asked", [False, True], ids=["before asking", "after asking"])
def test_a_harvest_that_was_killed_chooses_the_same_rows_again(
    layout: PipelineLayout, pipelines: Path, monkeypatch: pytest.MonkeyPatch, is_asked: bool
) -> None:
    configure(pipelines, budget=8)
    config = load_pipeline(find_pipeline(NAME))
    loop, ask = Loop(layout, config, database()), Loop._ask

    def killed(self: Loop, *arguments: Any) -> int:
        if is_asked:
            ask(self, *arguments)
        raise StorageError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_ask", killed)
        with pytest.raises(StorageError, match="killed"):
            loop.harvest(NOW + timedelta(hours=1))
    left = HarvestRecord.read(layout.label_harvest)
    before = asked() if is_asked else None
    log_rows(layout, "b", 10, left.until)  # belong to the next part
    done = loop.harvest(NOW + timedelta(hours=2))
    assert (done.until, done.seed, done.is_done) == (left.until, left.seed, True)
    assert not any(name.startswith("b") for name in asked())
    assert len(asked()) == done.questions > 5
    assert before is None or asked() == before


def test_labels_are_stored_when_enough_of_them_are_new_and_only_once(
    layout: PipelineLayout,
) -> None:
    turn()
    audits = sum(asked().values())
    answer_all("ada", 5)
    answer_all("bob", 5)
    few = turn()["learn"]
    assert (few["delta"], few["added"]) == ("", 0)
    assert few["labels"] == few["waiting"] <= 5
    assert not list(layout.label_deltas.glob("*.csv"))

    for who in PEOPLE:
        answer_all(who)
    enough = turn()["learn"]
    assert enough["added"] == enough["labels"] == 20 - audits
    assert (layout.label_deltas / enough["delta"]).read_text().startswith("image,label\n")
    assert enough == LabelLoopRecord.read(layout.label_loop).model_dump(mode="json")
    again = turn()["learn"]
    assert (again["delta"], again["added"], again["waiting"]) == ("", 0, 0)
    assert len(list(layout.label_deltas.glob("*.csv"))) == 1


def test_a_turn_that_was_killed_after_it_stored_labels_stores_none_of_them_twice(
    layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn()
    for who in PEOPLE:
        answer_all(who)

    def killed(self: LabelLoopRecord, path: Path) -> None:
        raise StorageError(f"{path.name}: killed")

    with monkeypatch.context() as patch:
        patch.setattr(LabelLoopRecord, "write", killed)
        slipway("loop", NAME, "--only", "learn", exit_code=1)
    (delta,) = layout.label_deltas.glob("*.csv")
    content = delta.read_bytes()
    assert turn()["learn"]["waiting"] == 0
    assert [path.read_bytes() for path in layout.label_deltas.glob("*.csv")] == [content]


def test_a_tenth_of_the_labels_is_enough_while_the_version_in_service_is_below_the_bound(
    layout: PipelineLayout, pipelines: Path
) -> None:
    log_rows(layout, "b", 80, NOW, wrong=80)
    configure(pipelines, min_labels=195, min_accuracy=0.5)
    arm = Arm(name="stable", version=1, weight_percent=100)
    TrafficPlan(pipeline=NAME, arms=(arm,)).write(layout.traffic_plan)
    turn()
    store = database()
    topic = topic_id(store, NAME)
    wrong = [one for one in stored_questions(store, topic[0]) if one.request_id.startswith("b")]
    learnable = [one for one in wrong if not one.is_audit]

    def answer_wrong(count: int) -> dict[str, Any]:
        said = [
            (one.request_id, one.row, who, str(int(one.inputs["image"][0][0])))
            for one in learnable[:count]
            for who in PEOPLE
        ]
        import_answers(store, topic, said, NOW.timestamp())
        found: dict[str, Any] = turn("--only", "learn")["learn"]
        return found

    few = answer_wrong(19)  # of 19.5
    assert (few["is_below"], few["waiting"], few["delta"]) == (True, 19, "")
    told = " ".join(slipway("loop", NAME, "--only", "learn").stderr.split())
    assert "19 of them are new, 20 start a run" in told
    assert answer_wrong(20)["added"] == 20
    assert answer_wrong(21)["waiting"] == 1  # one more starts no other run


def test_a_version_is_below_the_bound_with_its_whole_range(
    layout: PipelineLayout, pipelines: Path
) -> None:
    log_rows(layout, "b", 80, NOW, wrong=80)
    configure(pipelines, budget=500, audit_ratio=1.0, min_labels=1_000, min_accuracy=0.5)
    arm = Arm(name="stable", version=1, weight_percent=100)
    TrafficPlan(pipeline=NAME, arms=(arm,)).write(layout.traffic_plan)
    turn()
    for who in PEOPLE:
        answer_all(who)
    found = turn()["learn"]
    (version,) = found["accuracy"]
    # every row is audited with probability 1, and 20 of 100 are right
    assert (version["requests"], version["accuracy"]) == (100, 0.2)
    assert version["low"] < 0.2 < version["high"] < 0.5
    assert (found["champion"], found["is_below"]) == (1, True)
    assert "version 1 (in service) is right in 20.0% of 100 labelled requests" in (
        " ".join(slipway("accuracy", NAME).stderr.split())
    )


def test_unsure_rows_count_by_one_over_the_probability_of_their_choice(
    layout: PipelineLayout, pipelines: Path
) -> None:
    """By a second computation: the ratio estimator of Hajek over what people have answered."""
    log_rows(layout, "b", 60, NOW, wrong=15)
    configure(pipelines, budget=40, audit_ratio=0.5)
    turn()
    for who in PEOPLE:
        answer_all(who)
    (found,) = turn()["learn"]["accuracy"]
    store = database()
    rows = [*stored_questions(store, topic_id(store, NAME)[0])]
    weights = np.array([1 / one.probability for one in rows])
    right = np.array([one.guesses[0][0] == str(int(one.inputs["image"][0][0])) for one in rows])
    assert weights.min() < weights.max()
    assert found["requests"] == len(rows) >= 20
    assert found["accuracy"] == pytest.approx((weights @ right) / weights.sum(), abs=1e-6)
    shown = json.loads(slipway("accuracy", NAME, "--json").stdout)
    assert shown == [found]


def test_what_a_reviewer_has_decided_counts_where_nobody_gave_a_label(
    layout: PipelineLayout,
) -> None:
    turn("--only", "harvest")
    answer_all("ada", 1)
    store = database()
    topic, _ = topic_id(store, NAME)
    (answer,) = answers(store, topic)
    decide(store, (topic, answer.question), "rita", None, NOW.timestamp())
    found = turn("--only", "learn")["learn"]
    assert (found["labels"], found["accuracy"]) == (0, [])  # nobody can tell

    take_back(store, topic, "rita", NOW.timestamp())
    decide(store, (topic, answer.question), "rita", "3", NOW.timestamp())
    undo(store, topic, "ada", NOW.timestamp())
    answer_question(store, answer.question, "ada", None, NOW.timestamp())
    (version,) = turn("--only", "learn")["learn"]["accuracy"]
    assert version["requests"] == 1


def test_questions_about_a_head_that_was_renamed_do_not_count(layout: PipelineLayout) -> None:
    turn("--only", "harvest")
    answer_all("ada")
    old = Topic(NAME, "renamed", ("yes", "no"), {})
    add_questions(database(), old, [NewQuestion("old", 0, {})], 2)
    found = turn("--only", "learn")["learn"]
    assert (found["answers"], found["accuracy"][0]["requests"]) == (20, 20)


def test_before_anybody_was_asked_a_turn_finds_nothing(pipelines: Path) -> None:
    found = turn()
    assert found["harvest"]["questions"] == 0
    assert (found["learn"]["answers"], found["learn"]["labels"]) == (0, 0)


def rewrite(layout: PipelineLayout, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the files of the log again."""
    for path in layout.predictions(1).rglob("*.parquet"):
        pa.parquet.write_table(change(pa.parquet.read_table(path)), path)


def with_two_classes(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("scores:digit")
    scores = pa.array([[0.5, 0.5]] * table.num_rows, table.schema.field(at).type)
    return table.set_column(at, table.schema.field(at), scores)


@pytest.mark.parametrize(
    ("change", "by", "words"),
    [
        (lambda table: table.drop(["input:image"]), "margin", "20 answered rows, none with its in"),
        (with_two_classes, "margin", "another number of classes than the config (10)"),
        (lambda table: table, "disagreement", "no shadow has answered any of 20 rows"),
    ],
    ids=["no inputs", "other classes", "no shadow"],
)
def test_a_part_of_the_log_that_cannot_be_asked_about_is_told_and_does_not_come_again(
    layout: PipelineLayout,
    pipelines: Path,
    change: Callable[[pa.Table], pa.Table],
    by: str,
    words: str,
) -> None:
    rewrite(layout, change)
    configure(pipelines, by=by)
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    first = loop.harvest(NOW + timedelta(hours=1))
    assert (first.questions, first.is_done, words in first.problem) == (0, True, True)

    configure(pipelines)
    log_rows(layout, "b", 10, first.until)
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    second = loop.harvest(NOW + timedelta(hours=2))
    assert (second.since, second.questions, second.problem) == (first.until, 10, "")
    assert {*asked()} == {f"b{n}" for n in range(10)}


def test_a_harvest_of_the_future_is_told(layout: PipelineLayout, pipelines: Path) -> None:
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), database())
    ahead = loop.harvest(NOW + timedelta(days=365))
    assert (ahead.questions, ahead.problem) == (20, "")
    now = NOW + timedelta(hours=1)
    log_rows(layout, "b", 10, now - timedelta(minutes=5))
    found = loop.harvest(now)
    assert (found.questions, found.since, found.until) == (0, ahead.until, ahead.until)
    assert "until 2026-11-29 15:19:50 UTC, which is in the future: a clock was" in found.problem
    assert str(layout.label_harvest) in found.problem


def test_answers_about_other_classes_measure_nothing(
    layout: PipelineLayout, pipelines: Path
) -> None:
    turn("--only", "harvest")
    answer_all("ada")
    path = pipelines / NAME / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    head = config["heads"]["digit"]
    classes = [str(digit) for digit in range(CLASSES)]
    head["classes"] = [*classes, "none"]
    path.write_text(yaml.safe_dump(config))
    (version,) = json.loads(slipway("accuracy", NAME, "--json").stdout)
    assert version["requests"] == 20

    head["classes"] = classes[::-1]
    path.write_text(yaml.safe_dump(config))
    for words in (("accuracy", NAME), ("loop", NAME, "--only", "learn")):
        refused = " ".join(slipway(*words, exit_code=2).stderr.split())
        assert "people were asked about the classes 0, 1, 2" in refused


def test_why_nothing_is_asked_is_said(layout: PipelineLayout) -> None:
    rewrite(layout, lambda table: table.drop(["input:image"]))
    said = " ".join(slipway("loop", NAME, "--only", "harvest").stderr.split())
    assert "20 answered rows, none with its inputs; set serve.prediction_log_inputs_ratio" in said


def test_a_pipeline_without_a_loop_is_told_how_to_have_one() -> None:
    refused = slipway("loop", "digits", exit_code=2)
    assert "no label loop; add a section 'labels'" in " ".join(refused.stderr.split())


def test_an_unknown_part_of_the_loop_is_refused(pipelines: Path) -> None:
    refused = slipway("loop", NAME, "--only", "train", exit_code=2)
    assert "--only train: expected harvest or learn" in " ".join(refused.stderr.split())


def test_accuracy_needs_questions_and_answers(layout: PipelineLayout) -> None:
    refused = slipway("accuracy", NAME, exit_code=2)
    assert f"no questions about {NAME}" in " ".join(refused.stderr.split())
    turn("--only", "harvest")
    refused = slipway("accuracy", NAME, exit_code=2)
    assert "no answers to make labels of" in " ".join(refused.stderr.split())
