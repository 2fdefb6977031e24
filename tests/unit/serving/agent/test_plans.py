import threading
from datetime import UTC, datetime

import pytest

from contract.errors import ConfigError, ConflictError, NotFoundError
from contract.layout import PipelineLayout
from contract.records.traffic import Arm, Shadow, TrafficPlan
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
    with pytest.raises(NotFoundError, match="pipeline 'census': nothing of it"):
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
    with pytest.raises(ConfigError, match="a shadow, which this data plane cannot make"):
        store.propose(plan({1: 100}, shadow=Shadow(version=2, percent=100)))
