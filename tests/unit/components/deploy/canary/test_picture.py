from rollouts import NOW, a_rollout

from components.deploy.canary.picture import draw, weights_over_time
from contract.records.rollout import RolloutEvent


def test_the_weights_are_those_of_the_events_up_to_the_last_look() -> None:
    assert weights_over_time(a_rollout()) == (
        [0.0, 60.0, 61.0, 138.0, 139.0, 180.0],
        [0, 0, 1, 1, 5, 5],
    )
    assert weights_over_time(a_rollout(events=())) == ([], [])


def test_decisions_are_marked_and_texts_are_texts(tmp_path) -> None:
    event = RolloutEvent(
        at=NOW,
        kind="ended",
        phase="5 %",
        weight_percent=0,
        words="rolled back: $\\frac{ a ^" + "x" * 99,
    )
    figure = draw(a_rollout(events=(*a_rollout().events, event), state="rolled back"))
    figure.savefig(tmp_path / "rollout.png")  # draws every text
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[:2] == ["passed: shadow", "passed: 1 %"]
    assert said[2] == "ended: rolled back: $\\frac{ a ^xxxxxxxxx …"
