import pytest

from components.agent_client import PlanConflictError
from components.deploy.manual import promote_version, rollback, teardown
from components.deploy.plans import Note, with_canary
from contract.errors import NotFoundError, UserError
from contract.records.traffic import Arm, TrafficPlan


@pytest.fixture
def kept(world, layout):
    """Versions 1 to 3 are kept; 2 is in service, 1 was before."""
    for version in (1, 2, 3):
        folder = layout.version(version)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
    arms = (Arm(name="stable", version=2, weight_percent=100),)
    world.put(TrafficPlan(pipeline="digits", arms=arms, standby=(1,), author="run r2"))
    return world


@pytest.fixture
def on_trial(kept):
    kept.put(with_canary(kept.plan, 3, 25, Note("run r3", "")))
    return kept


def test_promote_gives_any_kept_version_all_traffic(kept, client, layout):
    plan = promote_version(client, layout, 3, "ada")
    assert plan.champion == 3
    assert plan.standby == (2,)
    assert plan.author == "ada"


def test_promote_names_the_kept_versions(kept, client, layout):
    with pytest.raises(NotFoundError, match=r"version 9 is not kept \(kept: 1, 2, 3\)"):
        promote_version(client, layout, 9, "ada")


def test_rollback_goes_to_the_last_champion(kept, client, layout):
    plan = rollback(client, layout, None, "ada")
    assert plan.champion == 1
    assert plan.standby == (2,)


def test_rollback_goes_to_a_named_version(kept, client, layout):
    assert rollback(client, layout, 3, "ada").champion == 3


def test_rollback_in_a_trial_ends_the_trial(on_trial, client, layout):
    plan = rollback(client, layout, None, "ada")
    assert plan.champion == 2
    assert plan.versions == {1, 2}


def test_rollback_with_nobody_before_says_so(kept, client, layout):
    kept.put(kept.plan.model_copy(update={"standby": ()}))
    with pytest.raises(NotFoundError, match="no last champion on standby"):
        rollback(client, layout, None, "ada")


def test_teardown_takes_the_pipeline_out_of_service(on_trial, client, layout):
    assert teardown(client, layout, None, "ada").versions == frozenset()
    assert layout.kept_versions() == [1, 2, 3]


def test_teardown_refuses_the_champion(kept, client, layout):
    with pytest.raises(UserError, match="version 2 is the champion and cannot be removed"):
        teardown(client, layout, 2, "ada")
    assert layout.kept_versions() == [1, 2, 3]


def test_teardown_of_a_version_on_trial_ends_the_trial_and_removes_it(on_trial, client, layout):
    plan = teardown(client, layout, 3, "ada")
    assert plan.versions == {1, 2}
    assert layout.kept_versions() == [1, 2]


def test_teardown_of_one_on_standby_leaves_the_traffic(on_trial, client, layout):
    plan = teardown(client, layout, 1, "ada")
    assert plan.canary is not None
    assert plan.versions == {2, 3}
    assert layout.kept_versions() == [2, 3]


def test_a_plan_changed_in_the_same_moment_is_a_conflict(kept, client, layout, monkeypatch):
    stale = client.plan("digits")
    kept.put(kept.plan)
    monkeypatch.setattr(client, "plan", lambda _: stale)
    with pytest.raises(PlanConflictError, match="expected generation 1"):
        promote_version(client, layout, 3, "ada")
