"""The event of new labels: once for each of them, whenever the task was killed."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from contract.layout import PipelineLayout
from contract.records.labels import LabelsRecord
from operators.component import PipelineRef
from operators.label_loop import AnnounceLabelsOperator, LabelLoopOperator, new_labels

NOW = datetime(2026, 11, 29, 15, 20, tzinfo=UTC)
ASSET = Asset("slipway://digits/labels")


class Events(list[Any]):
    """Airflow's events of an asset, oldest first, as a task sees them."""

    def ascending(self, is_ascending: bool) -> "Events":
        return self if is_ascending else Events(reversed(self))

    def limit(self, count: int) -> "Events":
        return Events(self[:count])


class Outlet:
    """What a task puts into an alias."""

    def __init__(self) -> None:
        self.added: list[tuple[Asset, dict[str, Any]]] = []

    def add(self, asset: Asset, extra: dict[str, Any]) -> None:
        self.added.append((asset, extra))


def store(layout: PipelineLayout, number: int, added: int, corrected: int = 0) -> str:
    name = f"{number}-{number:012x}.csv"
    record = LabelsRecord(
        pipeline="digits",
        delta=name,
        added=added,
        corrected=corrected,
        duplicates=0,
        added_at=NOW,
    )
    record.write((layout.label_deltas / name).with_suffix(".json"))
    (layout.label_deltas / name).write_text("image,label\n")
    return name


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "digits")


def announced(layout: PipelineLayout, *events: dict[str, Any]) -> list[tuple[Asset, Any]]:
    """Run the task after some events, and return those that it emits."""
    ref = PipelineRef("digits", str(layout.root))
    task = AnnounceLabelsOperator(task_id="announce", pipeline=ref, labels=ASSET)
    outlet = Outlet()
    task.execute(
        {
            "inlet_events": {ASSET: Events(SimpleNamespace(extra=extra) for extra in events)},
            "outlet_events": {task.alias: outlet},
        }
    )
    return outlet.added


def test_one_event_names_the_newest_delta_and_the_rows_of_all_that_are_new(
    layout: PipelineLayout,
) -> None:
    for number, rows in enumerate((3, 4, 5, 6, 7, 8, 9, 10), 2):
        name = store(layout, number, rows, corrected=1)
    # 2 is announced; of the others 4 + ... + 10 = 49 rows are added, and one of each corrected
    old = {"rows": 4, "delta": "2-000000000002.csv"}
    assert announced(layout, {"rows": 1, "delta": "1-x.csv"}, old) == [
        (ASSET, {"rows": 49 + 7, "delta": name})
    ]


def test_labels_are_announced_once(layout: PipelineLayout) -> None:
    store(layout, 1, 5)
    ((_, extra),) = announced(layout)
    with pytest.raises(AirflowSkipException, match="no new labels"):
        announced(layout, extra)


def test_labels_that_were_stored_before_a_kill_are_announced_by_the_next_try(
    layout: PipelineLayout,
) -> None:
    first = {"rows": 5, "delta": store(layout, 1, 5)}
    store(layout, 2, 3)  # and the task that stored it was killed: nobody has heard of it
    assert [extra["rows"] for _, extra in announced(layout, first)] == [3]


def test_without_labels_nothing_is_announced(layout: PipelineLayout) -> None:
    with pytest.raises(AirflowSkipException, match="no new labels"):
        announced(layout)


@pytest.mark.parametrize("by_hand", [{}, {"delta": "new rows"}, {"delta": None}])
def test_an_event_by_hand_hides_no_labels_and_repeats_none(
    layout: PipelineLayout, by_hand: dict[str, Any]
) -> None:
    first = {"rows": 5, "delta": store(layout, 1, 5)}
    assert len(announced(layout, by_hand)) == 1
    with pytest.raises(AirflowSkipException, match="no new labels"):
        announced(layout, first, by_hand)


def test_deltas_are_ordered_by_number(layout: PipelineLayout) -> None:
    names = [store(layout, number, number) for number in (9, 10, 11)]
    assert [record.delta for record in new_labels(layout, 9)] == names[1:]


def test_a_delta_without_a_record_is_announced_with_its_rows(layout: PipelineLayout) -> None:
    store(layout, 2, 5)
    (layout.label_deltas / "1-000000000001.csv").write_text('note,label\n"a\nb",1\nc,2\n')
    ((_, extra),) = announced(layout)
    assert extra == {"rows": 5 + 2, "delta": "2-000000000002.csv"}


def test_a_part_of_a_turn_is_a_command() -> None:
    task = LabelLoopOperator(task_id="harvest", pipeline=PipelineRef("digits", "/root"))
    assert task.build()[1:] == (
        *("-m", "slipway", "labels", "loop", "digits"),
        *("--only", "harvest"),
    )


def test_a_users_mistake_is_not_tried_again(
    layout: PipelineLayout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    task = LabelLoopOperator(
        task_id="learn", pipeline=PipelineRef("digits", str(layout.root))
    )  # which has no section 'labels'
    with pytest.raises(AirflowFailException, match="ended with 2; .*no label loop"):
        task.execute({"run_id": "r"})
