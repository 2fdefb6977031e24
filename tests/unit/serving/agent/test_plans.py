import json
import threading
from datetime import UTC, datetime

import pytest

from contract.errors import ConfigError, ConflictError, DataError, NotFoundError, UserError
from contract.layout import PipelineLayout
from contract.records.traffic import Arm, BadVersion, Shadow, TrafficPlan
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

ANYTHING = Capabilities(weight_step_percent=1, max_arms=2, has_shadow=True)


@pytest.fixture
def layout(tmp_path) -> PipelineLayout:
    layout = PipelineLayout(tmp_path, "digits")
    for version in (1, 2):
        layout.version(version).mkdir(parents=True)
        (layout.version(version) / "package.json").write_text("{}")
    return layout


@pytest.fixture
def store(layout) -> PlanStore:
    return PlanStore(layout.root, ANYTHING)


def plan(weights: dict[int, int], **more) -> TrafficPlan:
    names = ("stable", "canary")
    arms = [
        Arm(name=name, version=version, weight_percent=weight)
        for name, (version, weight) in zip(names, weights.items(), strict=False)
    ]
    return TrafficPlan(pipeline="digits", arms=tuple(arms), **more)


def test_before_any_plan_the_generation_is_zero(store) -> None:
    assert store.current("digits") == TrafficPlan(pipeline="digits")
    assert store.pipelines() == []


def test_a_proposal_is_stored_with_the_next_generation_and_the_time(store) -> None:
    before = datetime.now(UTC)
    stored = store.propose(plan({1: 100}, author="me"))
    assert (stored.generation, stored.author) == (1, "me")
    assert before <= stored.written_at <= datetime.now(UTC)
    assert store.current("digits") == stored
    assert store.pipelines() == ["digits"]
    assert store.propose(plan({1: 90, 2: 10}, generation=1)).generation == 2


def test_a_proposal_on_an_old_generation_is_refused(store) -> None:
    store.propose(plan({1: 100}, author="first"))
    with pytest.raises(ConflictError, match=r"generation 1 \(by 'first'\) is in force"):
        store.propose(plan({2: 100}))
    assert store.current("digits").champion == 1


def test_of_many_proposals_at_once_one_is_stored(store) -> None:
    outcomes = []

    def propose(number: int) -> None:
        try:
            outcomes.append(store.propose(plan({1: 100}, author=str(number))).author)
        except ConflictError:
            outcomes.append("")

    threads = [threading.Thread(target=propose, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [author for author in outcomes if author]
    assert len(outcomes) == 8
    assert winners == [store.current("digits").author]


def bad(*versions: int) -> tuple[BadVersion, ...]:
    return tuple(BadVersion(version=version, author="ada") for version in versions)


def test_the_store_keeps_who_was_champion_whatever_a_proposal_says(store) -> None:
    store.propose(plan({1: 100}, author="run r1", reason="first"))
    store.propose(plan({1: 95, 2: 5}, generation=1))
    stored = store.propose(plan({2: 100}, generation=2, author="run r2", reason="better"))
    found = [(c.version, c.previous, c.is_rollback, c.author, c.reason) for c in stored.champions]
    assert found == [(1, None, False, "run r1", "first"), (2, 1, False, "run r2", "better")]
    assert stored.champions[1].changed_at == stored.written_at
    assert stored.lineage == (1, 2)


def test_a_mark_stays_until_its_version_is_champion_again(store) -> None:
    store.propose(plan({1: 100}))
    store.propose(plan({2: 100}, generation=1))
    back = store.propose(plan({1: 100}, generation=2, bad=bad(2)))
    assert (back.lineage, back.champions[-1].is_rollback) == ((1,), True)
    assert back.mark_of(2).marked_at == back.written_at
    marked = store.propose(plan({1: 95, 2: 5}, generation=3))
    assert marked.mark_of(2) == back.mark_of(2)
    promoted = store.propose(plan({2: 100}, generation=4))
    assert (promoted.bad, promoted.lineage) == ((), (1, 2))


def test_a_plan_file_without_a_history_is_read_and_continued(store, layout) -> None:
    old = {
        "record_version": 1,
        "pipeline": "digits",
        "generation": 7,
        "arms": [{"record_version": 1, "name": "stable", "version": 2, "weight_percent": 100}],
        "shadow": None,
        "standby": [1],
        "author": "run r2",
        "reason": "version 2 is promoted",
        "written_at": "2026-01-01T00:00:00Z",
    }
    layout.traffic_plan.parent.mkdir(parents=True)
    layout.traffic_plan.write_text(json.dumps(old))
    assert store.current("digits").lineage == (1, 2)
    stored = store.propose(plan({1: 100}, generation=7, bad=bad(2)))
    assert [change.version for change in stored.champions] == [1, 2, 1]
    assert stored.lineage == (1,)


def test_an_old_plan_does_not_count_what_was_rolled_back_from_or_waits(store) -> None:
    """Such a version is on standby with a higher number than the champion's."""
    assert plan({1: 100}, standby=(2,)).lineage == (1,)


def test_history_and_marks_stay_small(store) -> None:
    for generation in range(120):
        stored = store.propose(plan({1 + generation % 2: 100}, generation=generation))
    assert len(stored.champions) == 50
    assert (stored.champions[-1].version, stored.champions[-1].previous) == (2, 1)


def test_unknown_versions_are_refused_wherever_they_stand(store) -> None:
    for wrong in (
        plan({1: 50, 9: 50}),
        plan({1: 100}, shadow=Shadow(version=9, percent=1)),
        plan({1: 100}, standby=(9,)),
    ):
        with pytest.raises(NotFoundError, match=r"no version 9 \(kept: 1, 2\)"):
            store.propose(wrong)
    assert store.pipelines() == []


def test_unknown_pipelines_are_refused_and_leave_nothing(store, layout) -> None:
    with pytest.raises(NotFoundError, match="pipeline 'census': not found"):
        store.propose(TrafficPlan(pipeline="census"))
    with pytest.raises(NotFoundError, match="not a pipeline's name"):
        store.current("../digits")
    assert [path.name for path in layout.root.iterdir()] == ["digits"]


def test_a_shadow_must_be_a_copy_of_something_else(store) -> None:
    with pytest.raises(ConfigError, match="version 2 is both an arm and the shadow"):
        store.propose(plan({1: 50, 2: 50}, shadow=Shadow(version=2, percent=100)))
    with pytest.raises(ConfigError, match="a shadow without a stable arm"):
        store.propose(plan({}, shadow=Shadow(version=2, percent=100)))


def test_plans_beyond_what_the_backend_can_are_refused(layout) -> None:
    poor = Capabilities(weight_step_percent=10, max_arms=1, has_shadow=False)
    store = PlanStore(layout.root, poor)
    with pytest.raises(ConfigError, match="2 arms, expected at most 1") as refused:
        store.propose(plan({1: 95, 2: 5}, shadow=None))
    assert "arm canary: weight 5 %, expected a multiple of 10" in str(refused.value)
    with pytest.raises(ConfigError, match="a shadow, which this data plane does not support"):
        store.propose(plan({1: 100}, shadow=Shadow(version=2, percent=100)))


# --- pauses -------------------------------------------------------------------------------------


def test_a_pause_holds_the_trial_where_it_is(store) -> None:
    store.propose(plan({1: 95, 2: 5}, author="run r2"))
    paused = store.pause("digits", "ada", "lunch")
    assert (paused.hold.version, paused.hold.weight_percent) == (2, 5)
    assert (paused.hold.author, paused.hold.reason) == ("ada", "lunch")
    assert paused.hold.since <= paused.written_at
    assert (paused.generation, paused.author) == (2, "run r2")
    assert store.current("digits") == paused
    assert store.pause("digits", "bob", "me too") == paused  # it is on hold already
    assert store.resume("digits").hold is None
    assert store.current("digits").generation == 3


def test_a_shadow_is_held_at_no_share(store) -> None:
    store.propose(plan({1: 100}, shadow=Shadow(version=2, percent=100)))
    assert store.pause("digits", "ada", "").hold.weight_percent == 0


def test_a_proposal_made_before_the_pause_is_refused(store) -> None:
    store.propose(plan({1: 95, 2: 5}))
    store.pause("digits", "ada", "")
    with pytest.raises(ConflictError, match="generation 2"):
        store.propose(plan({1: 50, 2: 50}, generation=1))


def test_a_hold_stays_while_its_version_runs_whatever_a_proposal_says(store) -> None:
    store.propose(plan({1: 95, 2: 5}))
    hold = store.pause("digits", "ada", "").hold
    waiting = store.propose(plan({1: 100}, standby=(2,), generation=2))
    assert waiting.hold == hold
    assert store.propose(plan({1: 95, 2: 5}, generation=3)).hold == hold
    assert store.propose(plan({1: 100}, generation=4)).hold is None


def test_a_hold_ends_when_its_version_is_champion(store) -> None:
    store.propose(plan({1: 95, 2: 5}))
    store.pause("digits", "ada", "")
    assert store.propose(plan({2: 100}, standby=(1,), generation=2)).hold is None


def test_without_a_trial_there_is_nothing_to_pause_or_to_resume(store) -> None:
    store.propose(plan({1: 100}))
    with pytest.raises(UserError, match="no trial is in progress, nothing to pause"):
        store.pause("digits", "ada", "")
    with pytest.raises(UserError, match="no trial is paused, nothing to resume"):
        store.resume("digits")


def test_a_pipeline_that_is_not_there_is_not_made_by_a_pause(store, layout) -> None:
    with pytest.raises(NotFoundError, match="pipeline 'census': not found"):
        store.pause("census", "ada", "")
    assert [path.name for path in layout.root.iterdir()] == ["digits"]


# --- damaged on storage -------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", '{"pipeline": 7}', "\x00" * 300])
def test_a_damaged_plan_is_put_aside_for_the_copy_of_the_last_one(store, layout, content) -> None:
    store.propose(plan({1: 100}))
    last = store.propose(plan({1: 95, 2: 5}, generation=1))
    layout.traffic_plan.write_text(content)
    assert store.current("digits") == last
    (aside,) = layout.damaged_traffic_plans()
    assert aside.read_text() == content
    assert TrafficPlan.read(layout.traffic_plan) == last
    assert store.propose(plan({1: 100}, generation=2)).generation == 3


def test_a_pause_is_in_the_copy_too(store, layout) -> None:
    store.propose(plan({1: 95, 2: 5}))
    paused = store.pause("digits", "ada", "lunch")
    layout.traffic_plan.write_text("{")
    assert store.current("digits") == paused


def test_without_a_sound_copy_the_damage_is_told_with_the_next_step(store, layout) -> None:
    store.propose(plan({1: 100}))
    for path in (layout.traffic_plan, layout.good_traffic_plan):
        path.write_text("{")
    with pytest.raises(DataError, match=r"there is no sound copy .* promote digits --version N"):
        store.current("digits")
    assert layout.traffic_plan.read_text() == "{"


def test_plans_of_an_older_slipway_get_a_copy(store, layout) -> None:
    stored = store.propose(plan({1: 100}))
    layout.good_traffic_plan.unlink()
    store.copy_all()
    assert TrafficPlan.read(layout.good_traffic_plan) == stored


def test_a_plan_of_a_newer_slipway_is_not_called_damaged(store, layout) -> None:
    store.propose(plan({1: 100}))
    newer = json.dumps({"record_version": 99, "pipeline": "digits"})
    layout.traffic_plan.write_text(newer)
    with pytest.raises(DataError, match="upgrade Slipway"):
        store.current("digits")
    assert layout.traffic_plan.read_text() == newer
    assert layout.damaged_traffic_plans() == []
