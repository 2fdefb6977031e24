"""A log is followed once for all who look, twins are joined, and nothing grows without end."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from live_log import LiveLog

from contract.errors import NotFoundError
from contract.layout import PipelineLayout
from serving.labels.stream import watching
from serving.labels.stream.watching import LostError, Watch, Watches


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "digits")


@pytest.fixture
def watch(layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A stream that looks when the test says so, and not by itself."""
    monkeypatch.setattr(Watch, "_work", lambda _self: None)
    return Watch(layout)


def ids(watch: Watch, number: int = 0) -> list[str]:
    return [event.row.key[0] for event in watch.since(number)]


def test_the_newest_rows_are_there_at_once_and_new_ones_once(
    watch: Watch, layout: PipelineLayout
) -> None:
    log = LiveLog(layout)
    log.write(*({"id": f"old{n}"} for n in range(60)))
    watch.look()
    assert ids(watch) == [f"old{n}" for n in range(10, 60)]
    last = watch.since(0)[-1].number
    watch.look()
    assert ids(watch, last) == []
    log.write({"id": "new"})
    watch.look()
    assert ids(watch, last) == ["new"]


def test_a_version_that_comes_later_is_followed_too(watch: Watch, layout: PipelineLayout) -> None:
    LiveLog(layout, 1).write({"id": "a"})
    watch.look()
    LiveLog(layout, 2, "canary").write({"id": "b"})
    watch.look()
    assert [event.row.version for event in watch.since(0)] == [1, 2]
    assert watch.versions() == [1, 2]


def test_two_versions_answers_to_one_request_are_joined_whenever_they_come(
    watch: Watch, layout: PipelineLayout
) -> None:
    stable, shadow = LiveLog(layout, 1), LiveLog(layout, 2, "shadow")
    stable.write({"id": "a", "label": 3}, {"id": "b"})
    watch.look()
    shadow.write({"id": "a", "label": 8}, {"id": "c"})
    watch.look()
    (joined,) = [event for event in watch.since(0) if event.twin is not None]
    assert (joined.row.version, joined.row.answers[0].label) == (2, "8")
    assert joined.twin is not None
    assert (joined.twin.version, joined.twin.answers[0].label) == (1, "3")


def test_a_request_that_is_sent_twice_to_one_version_is_not_its_own_twin(
    watch: Watch, layout: PipelineLayout
) -> None:
    LiveLog(layout).write({"id": "a"}, {"id": "a"})
    watch.look()
    assert [event.twin for event in watch.since(0)] == [None, None]


def test_of_many_rows_the_same_requests_of_both_versions_are_shown(
    watch: Watch, layout: PipelineLayout
) -> None:
    logs = [LiveLog(layout, 1), LiveLog(layout, 2, "shadow")]
    for log in logs:
        log.write({"id": "first"})
    watch.look()
    last = watch.since(0)[-1].number
    for log in logs:
        log.write(*({"id": f"r{n}"} for n in range(1_000)))
    watch.look()
    found = watch.since(last)
    assert len(found) == 500 and sum(event.left_out for event in found) == 1_500
    assert sum(event.twin is not None for event in found) == 250


def test_a_reader_who_is_too_slow_is_told(
    watch: Watch, layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LiveLog(layout)
    log.write({"id": "first"})
    watch.look()
    (first,) = watch.since(0)
    for part in range(6):
        log.write(*({"id": f"{part}-{n}"} for n in range(200)))
        watch.look()
    assert len(watch.since(0)) == watching._MOST_EVENTS
    with pytest.raises(LostError):
        watch.since(first.number)


def test_requests_without_a_twin_are_forgotten(
    watch: Watch, layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MOST_WAITING", 10)
    LiveLog(layout, 1).write(*({"id": f"r{n}"} for n in range(20)))
    watch.look()
    LiveLog(layout, 2, "shadow").write({"id": "r0"}, {"id": "r19"})
    watch.look()
    joined = [event.row.key[0] for event in watch.since(0) if event.twin is not None]
    assert joined == ["r19"]


def test_classes_are_those_of_the_newest_version(watch: Watch, layout: PipelineLayout) -> None:
    assert watch.classes == []
    LiveLog(layout, 1).package(["cat", "dog"])
    assert watch.classes == ["cat", "dog"]


def test_it_follows_by_itself_while_somebody_looks(
    layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.01)
    watch = Watch(layout)
    LiveLog(layout).write({"id": "a"})
    watch.since(0)
    thread = watch._thread
    assert thread is not None
    monkeypatch.setattr(watching, "_IDLE_SECONDS", -60.0)
    thread.join(60)
    assert not thread.is_alive()  # nobody looks any more


def test_after_a_fault_of_ours_the_next_reader_starts_again(
    layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_IDLE_SECONDS", 1e9)
    log, watch = LiveLog(layout), Watch(layout)
    log.write({"id": "a"})
    (path,) = layout.predictions(1).rglob("*.parquet")
    pq.write_table(pq.read_table(path).drop(["arm"]), path)  # as no version of ours writes it
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "_work", lambda _self: None)
        watch.since(0)
    assert watch._thread is not None
    with pytest.raises(KeyError, match="arm"):
        watch._work()
    assert watch._thread is None

    log.write({"id": "b"})
    watch.look()
    monkeypatch.setattr(Watch, "_work", lambda _self: None)
    assert ids(watch) == ["b"]


def test_only_pipelines_with_a_log_have_a_stream(tmp_path: Path, layout: PipelineLayout) -> None:
    watches = Watches(tmp_path)
    assert watches.pipelines() == []
    LiveLog(layout).write({"id": "a"})
    assert watches.pipelines() == ["digits"] and watches.of("digits") is watches.of("digits")
    for wrong in ("other", "..", "digits/../digits"):
        with pytest.raises(NotFoundError, match="no prediction log of"):
            watches.of(wrong)
