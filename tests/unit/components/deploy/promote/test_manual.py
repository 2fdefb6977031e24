from datetime import UTC, datetime

import pytest
from releases import leave_stage

from components.deploy.canary.state import STATE_FILE
from components.deploy.plans import Note, with_canary, with_champion
from components.deploy.promote.manual import carry_out, promotion, rollback, teardown
from components.runs.agent_client import PlanConflictError
from components.runs.retention import remove_version
from contract.errors import NotFoundError, UserError
from contract.records.traffic import Approval, Arm, DeployRecord, TrafficPlan

CANARY = DeployRecord(stage="canary", outcome="passed", version=3, champion_version=2)


@pytest.fixture
def kept(world, layout, make_package):
    """Versions 1 to 4 are kept, nobody tried 3 and 4; 2 is in service, 1 was before."""
    for version in (1, 2, 3, 4):
        make_package(layout, version, None, f"r{version}")
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    world.put(TrafficPlan(pipeline="digits", arms=arms, author="run r1"))
    world.put(with_champion(world.plan, 2, Note("run r2", "version 2 is promoted")))
    return world


@pytest.fixture
def on_trial(kept):
    kept.put(with_canary(kept.plan, 3, 25, Note("run r3", "")))
    return kept


@pytest.fixture
def promoted(client, layout):
    """Return a function that promotes by hand and returns the plan."""

    def promote(version=None, is_forced=False):
        move = promotion(client.plan("digits"), layout, version, is_forced, "ada")
        return carry_out(client, move)

    return promote


@pytest.fixture
def rolled_back(client, layout):
    """Return a function that rolls back by hand and returns the plan."""

    def back(version=None):
        return carry_out(client, rollback(client.plan("digits"), layout, version, "ada"))

    return back


def leave_trial(layout, version, outcome, *reasons):
    record = CANARY.model_copy(update={"version": version, "outcome": outcome, "reasons": reasons})
    leave_stage(layout.run(f"r{version}"), "canary", record)


# --- promotion ----------------------------------------------------------------------------------


def test_without_a_version_the_newest_that_passed_is_promoted(kept, promoted, layout):
    leave_trial(layout, 3, "passed")
    leave_trial(layout, 4, "rolled_back", "rolled back after 43 canary requests")
    plan = promoted()
    assert (plan.champion, plan.standby, plan.author) == (3, (2,), "ada")


def test_a_promotion_says_from_where_to_where_and_why(kept, layout):
    leave_trial(layout, 3, "passed", "passed 5 rungs with 0 errors in 900 requests")
    move = promotion(kept.plan, layout, None, False, "ada")
    assert move.words == (
        "all traffic goes from version 2 to version 3: its canary passed: passed 5 rungs with 0 "
        "errors in 900 requests"
    )
    assert move.warning == ""


def test_without_a_version_none_that_did_not_pass_is_promoted(kept, layout):
    leave_trial(layout, 3, "rolled_back", "errors 10 %")
    leave_trial(layout, 4, "inconclusive")
    expected = (
        r"version 2 is in service and no newer version has passed its trial \(version 4: its "
        r"canary ended as 'inconclusive'; version 3: its canary ended as 'rolled back': errors "
        r"10 %\)\. Name the version"
    )
    with pytest.raises(UserError, match=expected):
        promotion(kept.plan, layout, None, False, "ada")


def test_without_a_version_no_older_one_than_the_champion_is_promoted(kept, layout):
    leave_trial(layout, 1, "first")
    newest = with_champion(kept.plan, 4, Note("ada", ""))
    with pytest.raises(UserError, match="version 4 is in service and no newer .*none is newer"):
        promotion(newest, layout, None, False, "ada")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("rolled_back", "its canary ended as 'rolled back': because"),
        ("inconclusive", "its canary ended as 'inconclusive': because"),
        ("refused", "its canary ended as 'refused': because"),
        (None, "no record of a trial was found"),
    ],
)
def test_a_version_that_did_not_pass_is_named_and_forced(kept, promoted, layout, outcome, words):
    if outcome:
        leave_trial(layout, 3, outcome, "because")
    with pytest.raises(UserError, match=rf"version 3 did not pass: {words}\. .*--version 3 --forc"):
        promoted(3)
    assert kept.plan.champion == 2
    forced = promotion(kept.plan, layout, 3, True, "ada")
    assert forced.warning == f"version 3 did not pass: {words}"
    assert promoted(3, is_forced=True).champion == 3


def test_a_trial_that_was_cut_off_did_not_pass(kept, promoted, layout):
    state = layout.run("r3").step("canary") / STATE_FILE
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    with pytest.raises(UserError, match="its trial was interrupted before a decision"):
        promoted(3)


def test_a_version_whose_promotion_was_refused_did_not_pass(kept, promoted, layout):
    leave_trial(layout, 3, "passed")
    refusal = CANARY.model_copy(
        update={"stage": "promote", "outcome": "refused", "reasons": ("changed on storage",)}
    )
    leave_stage(layout.run("r3"), "promote", refusal)
    with pytest.raises(UserError, match="its promotion ended as 'refused': changed on storage"):
        promoted(3)


@pytest.mark.parametrize(("version", "has_passed"), [(3, False), (4, True)])
def test_a_version_that_a_person_rejected_did_not_pass(kept, layout, version, has_passed):
    leave_trial(layout, 3, "passed")
    answer = Approval(version=version, is_approved=False, who="bob", answered_at=datetime.now(UTC))
    answer.write(layout.run("r3").approval)
    if has_passed:  # the answer is about another version
        assert promotion(kept.plan, layout, 3, False, "ada").warning == ""
        return
    words = "version 3 did not pass: its canary passed, but bob rejected it"
    with pytest.raises(UserError, match=words):
        promotion(kept.plan, layout, 3, False, "ada")
    with pytest.raises(UserError, match="no newer version has passed .*but bob rejected it"):
        promotion(kept.plan, layout, None, False, "ada")
    assert promotion(kept.plan, layout, 3, True, "ada").warning == words


def test_the_trial_of_another_package_of_the_run_does_not_count(kept, promoted, layout):
    leave_stage(layout.run("r3"), "canary", CANARY.model_copy(update={"version": 4}))
    with pytest.raises(UserError, match="version 3 did not pass: no record of a trial was found"):
        promoted(3)


def test_a_version_on_trial_has_not_passed(on_trial, promoted):
    with pytest.raises(UserError, match="version 3 did not pass: its trial is not over"):
        promoted(3)
    assert promoted(3, is_forced=True).champion == 3


def test_an_earlier_champion_needs_no_force(kept, promoted):
    assert promoted(1).champion == 1


def test_promoting_the_champion_ends_the_trial_of_another(on_trial, promoted, client, layout):
    move = promotion(client.plan("digits"), layout, 2, False, "ada")
    assert move.words == (
        "version 2 keeps all traffic: it is in service; the trial of version 3 ends"
    )
    assert promoted(2).versions == {2, 1}


def test_promote_names_the_kept_versions(kept, promoted):
    with pytest.raises(NotFoundError, match=r"version 9 is not kept \(kept: 1, 2, 3, 4\)"):
        promoted(9)


def test_promote_with_nothing_kept_says_how_to_make_a_version(world, layout):
    with pytest.raises(NotFoundError, match="no version is kept; create one with 'slipway run"):
        promotion(world.plan, layout, None, False, "ada")


# --- roll-back ----------------------------------------------------------------------------------


def test_rollback_goes_to_the_last_champion_and_marks_the_one_it_leaves(kept, rolled_back):
    plan = rolled_back()
    assert plan.champion == 1
    assert [mark.version for mark in plan.bad] == [2]
    assert plan.versions == {1}, "the bad version is not kept running"


def test_rollback_says_from_where_to_where_and_what_it_marks(kept, layout):
    assert rollback(kept.plan, layout, None, "ada").words == (
        "all traffic goes from version 2 to version 1: it was champion before; version 2 is "
        "marked bad until it is promoted by number"
    )


def test_rollback_walks_back_and_never_returns_to_a_bad_version(kept, promoted, rolled_back):
    promoted(3, is_forced=True)
    assert (rolled_back().champion, kept.plan.standby) == (2, (1,))
    assert (rolled_back().champion, kept.plan.standby) == (1, ())
    with pytest.raises(NotFoundError, match="version 1 has no earlier champion to return to"):
        rolled_back()
    assert [mark.version for mark in kept.plan.bad] == [2, 3]


def test_a_bad_version_is_promoted_by_number_only(kept, promoted, rolled_back, layout):
    leave_trial(layout, 2, "passed")
    rolled_back()
    with pytest.raises(UserError, match=r"no newer version has passed .*ada rolled back from it"):
        promoted()
    with pytest.raises(UserError, match="version 2 did not pass: ada rolled back from it"):
        promoted(2)
    plan = promoted(2, is_forced=True)
    assert (plan.champion, plan.bad) == (2, ())
    assert rolled_back().champion == 1


def test_a_rollback_after_a_promotion_of_an_old_version_goes_to_the_one_before(
    kept, promoted, rolled_back
):
    promoted(3, is_forced=True)
    promoted(1)
    assert rolled_back().champion == 3
    assert rolled_back().champion == 2


def test_rollback_goes_to_a_named_champion_and_no_further_one_returns(kept, promoted, rolled_back):
    promoted(3, is_forced=True)
    assert rolled_back(1).champion == 1
    with pytest.raises(NotFoundError, match="no earlier champion"):
        rolled_back()


def test_rollback_to_a_version_that_never_was_champion_is_refused(kept, rolled_back):
    with pytest.raises(
        UserError, match=r"version 4 is not an earlier champion: it never was .*champions: 1\)"
    ):
        rolled_back(4)


def test_rollback_to_the_champion_or_a_bad_version_is_refused(kept, rolled_back):
    with pytest.raises(UserError, match="not an earlier champion: it is in service"):
        rolled_back(2)
    rolled_back()
    with pytest.raises(UserError, match="not an earlier champion: ada rolled back from it"):
        rolled_back(2)


def test_rollback_passes_over_a_version_that_is_no_longer_kept(kept, promoted, rolled_back, layout):
    promoted(3, is_forced=True)
    promoted(4, is_forced=True)
    remove_version(layout, 3)
    assert rolled_back().champion == 2


def test_rollback_in_a_trial_ends_the_trial(on_trial, rolled_back):
    plan = rolled_back()
    assert plan.champion == 2
    assert plan.versions == {1, 2}
    assert plan.bad == ()


def test_rollback_of_nothing_says_so(kept, rolled_back, client, layout):
    teardown(client, layout, None, "ada")
    with pytest.raises(NotFoundError, match="nothing is in service, so there is nothing to roll"):
        rolled_back()


def test_a_plan_changed_since_the_decision_is_a_conflict(kept, client, layout):
    move = rollback(client.plan("digits"), layout, None, "ada")
    kept.put(kept.plan)
    with pytest.raises(PlanConflictError, match="expected generation 2"):
        carry_out(client, move)


def test_two_people_who_roll_back_at_once_go_back_one_version(kept, promoted, client, layout):
    promoted(3, is_forced=True)
    plan = client.plan("digits")
    moves = [rollback(plan, layout, None, author) for author in ("ada", "bob")]
    assert carry_out(client, moves[0]).champion == 2
    with pytest.raises(PlanConflictError, match="changed to generation 4 by ada"):
        carry_out(client, moves[1])
    assert kept.plan.champion == 2


# --- out of service -----------------------------------------------------------------------------


def test_teardown_takes_the_pipeline_out_of_service(on_trial, client, layout):
    assert teardown(client, layout, None, "ada").versions == frozenset()
    assert layout.kept_versions() == [1, 2, 3, 4]


def test_teardown_refuses_the_champion(kept, client, layout):
    with pytest.raises(UserError, match="version 2 is the champion and cannot be removed"):
        teardown(client, layout, 2, "ada")
    assert layout.kept_versions() == [1, 2, 3, 4]


def test_teardown_of_a_version_on_trial_ends_the_trial_and_removes_it(on_trial, client, layout):
    plan = teardown(client, layout, 3, "ada")
    assert plan.versions == {1, 2}
    assert layout.kept_versions() == [1, 2, 4]


def test_teardown_of_one_on_standby_leaves_the_traffic(on_trial, client, layout):
    plan = teardown(client, layout, 1, "ada")
    assert plan.canary is not None
    assert plan.versions == {2, 3}
    assert layout.kept_versions() == [2, 3, 4]
