import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from rollouts import NOW, a_rollout

from contract.records.rollout import RolloutEvent
from contract.records.traffic import Hold
from serving.pages.rollout import HEADERS, empty_page, overview_page, rollout_page

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Seen(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_it_shows_weights_counts_and_every_test_against_its_bounds() -> None:
    seen = Seen(rollout_page(a_rollout(), NOW))
    text = " ".join(seen.texts)
    assert "digits: version 2 against version 1" in text
    assert "shadow, 1 %, 5 %, 25 %, 50 %, 95 %" in text
    for figure in ("83", "1,577", "5 %", "95 %", "8.1 ms", "21.5 of 172.4", "112 requests"):
        assert figure in seen.texts, figure
    # 21.5 of 172.4 and 1.24 of 125
    assert [m["value"] for m in seen.named("meter")][:2] == ["0.1247", "0.0099"]
    assert "this rung about 56 s, the way about 254 s" in text


@pytest.mark.parametrize(
    ("state", "colours"),
    [("rolled back", ["#16a34a", "#dc2626"]), ("passed", ["#16a34a", "#64748b"])],
)
def test_the_end_of_a_rolled_back_rollout_is_red_by_its_state_and_not_by_its_words(
    state: str, colours: list[str]
) -> None:
    kinds = ("entered", "passed", "ended")
    events = tuple(
        RolloutEvent(at=NOW, kind=kind, phase="5 %", weight_percent=5, words="rolled back?")
        for kind in kinds
    )
    seen = Seen(rollout_page(a_rollout(state=state, events=events), NOW))
    assert [mark["fill"] for mark in seen.named("circle")] == colours


def test_every_text_of_others_is_escaped() -> None:
    hold = Hold(version=2, weight_percent=5, author=ATTACK, reason=ATTACK)
    event = RolloutEvent(at=NOW, kind="ended", phase=ATTACK, weight_percent=0, words=ATTACK)
    hostile = dict.fromkeys(("pipeline", "author", "phase", "reason", "outlook"), ATTACK) | {
        "problems": (ATTACK,),
        "hold": hold,
        "events": (event,),
    }
    test = a_rollout().tests[0].model_copy(update={"name": ATTACK, "words": ATTACK})
    seen = Seen(rollout_page(a_rollout(tests=(test,), **hostile), NOW))
    assert seen.named("img") == []
    assert len(seen.named("script")) == 1
    assert not any(name.startswith("on") for _, given in seen.elements for name in given)
    for page in (empty_page(ATTACK), overview_page([ATTACK])):
        assert (Seen(page).named("img"), len(Seen(page).named("script"))) == ([], 1)


def test_nothing_is_loaded_from_elsewhere_and_only_its_own_script_may_run() -> None:
    page = rollout_page(a_rollout(), NOW)
    seen = Seen(page)
    assert not any({"src", "href"} & given.keys() for _, given in seen.elements)
    assert "url(" not in page
    assert "@import" not in page
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in given for _, given in seen.elements)  # the policy refuses those


def test_a_pause_and_a_controller_that_is_not_at_work_are_told() -> None:
    hold = Hold(version=2, weight_percent=5, author="ada", reason="lunch")
    text = " ".join(Seen(rollout_page(a_rollout(state="paused", hold=hold), NOW)).texts)
    assert "Paused by ada: lunch. Nothing passes" in text
    text = " ".join(Seen(rollout_page(a_rollout(), NOW + timedelta(seconds=20))).texts)
    assert "Its controller has not looked for 20 s" in text


def test_the_timeline_goes_up_where_the_weights_did() -> None:
    (path,) = Seen(rollout_page(a_rollout(), NOW)).named("path")
    # 180 s wide: 845 units from 45 on; 164 units high: 1 % is at 174.4, 5 % at 167.8
    assert path["d"] == ("M 45.0 176.0 H 326.7 H 331.4 V 174.4 H 692.8 H 697.5 V 167.8 H 890.0")


def test_one_without_events_or_of_no_pipeline_is_a_page_too() -> None:
    assert Seen(rollout_page(a_rollout(events=()), NOW)).named("svg") == []
    assert "No version has been tried here yet." in Seen(empty_page("digits")).texts
    links = [a["href"] for a in Seen(overview_page(["coins", "digits"])).named("a")]
    assert links == ["coins", "digits"]
