import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from contract.freshness import Fingerprint, fingerprint, last_judged_run
from contract.layout import PipelineLayout, RunLayout
from contract.loader import freeze_pipeline, load_frozen
from contract.records.record import Result


class Ground:
    """A pipeline folder with a data file, and an artifact root."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "rows-1.csv"
        self.data.write_text("size,label\n1,a\n")
        self.root = folder / "root"
        self.pipeline = folder / "shoes"
        self.pipeline.mkdir()
        (self.pipeline / "model.py").write_text("UNITS = 8\n")
        self.configure()

    def configure(self, **train: object) -> None:
        config = {
            "name": "shoes",
            "features": {"size": {"dtype": "float32"}},
            "heads": {"label": {"task": "binary_classification", "classes": ["a", "b"]}},
            "ingest": {"source": {"kind": "csv", "files": ["../rows-*.csv"]}},
            "train": train,
        }
        (self.pipeline / "pipeline.yaml").write_text(yaml.safe_dump(config))

    @property
    def layout(self) -> PipelineLayout:
        return PipelineLayout(self.root, "shoes")

    def start(self, run_id: str) -> tuple[RunLayout, Fingerprint]:
        run = self.layout.run(run_id)
        freeze_pipeline(self.pipeline, run, {})
        found = fingerprint(run, load_frozen(run))
        found.write(run.fingerprint)
        return run, found

    def judge(self, run: RunLayout, minute: int) -> None:
        moment = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
        known = {"pipeline": "shoes", "attempt": 1, "seconds": 1.0, "inputs": {}}
        result = Result(step="bless", run_id=run.run_id, started_at=moment, **known)
        result.write(run.result("bless"))
        os.utime(run.result("bless"), (moment.timestamp(), moment.timestamp()))


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_two_runs_of_the_same_start_have_the_same_fingerprint(ground: Ground) -> None:
    _, first = ground.start("one")
    _, second = ground.start("two")
    assert first == second
    assert second.changes_since(first) == ()


def test_a_changed_file_a_new_file_and_a_missing_file_are_changes(ground: Ground) -> None:
    _, before = ground.start("one")
    with ground.data.open("a") as file:
        file.write("2,b\n")
    _, grown = ground.start("two")
    assert grown.changes_since(before) == (f"{ground.data} has changed",)

    added = ground.data.with_name("rows-2.csv")
    added.write_text("size,label\n")
    _, more = ground.start("three")
    assert more.changes_since(grown) == (f"{added} has changed",)

    ground.data.unlink()
    added.unlink()
    _, none = ground.start("four")
    assert len(none.changes_since(more)) == 3  # both files went, the pattern now finds nothing


def test_a_file_written_again_with_the_same_size_is_a_change(ground: Ground) -> None:
    _, before = ground.start("one")
    moment = ground.data.stat().st_mtime + 5
    os.utime(ground.data, (moment, moment))
    _, after = ground.start("two")
    assert after.changes_since(before) == (f"{ground.data} has changed",)


def test_changed_config_or_code_is_a_change(ground: Ground) -> None:
    _, before = ground.start("one")
    ground.configure(steps=7)
    _, configured = ground.start("two")
    (ground.pipeline / "model.py").write_text("UNITS = 9\n")
    _, coded = ground.start("three")
    expected = ("the config or the code of the pipeline has changed",)
    assert configured.changes_since(before) == coded.changes_since(configured) == expected


def test_new_labels_are_a_change(ground: Ground) -> None:
    _, before = ground.start("one")
    ground.layout.label_deltas.mkdir(parents=True)
    (ground.layout.label_deltas / "0001-abc.csv").write_text("x")
    _, after = ground.start("two")
    assert after.changes_since(before) == ("1 new label deltas",)
    assert before.changes_since(after) == ("label deltas were removed",)


def test_a_source_that_cannot_be_looked_at_is_always_a_change(ground: Ground) -> None:
    text = (ground.pipeline / "pipeline.yaml").read_text()
    (ground.pipeline / "pipeline.yaml").write_text(
        text.replace("../rows-*.csv", "nowhere://bucket/rows.csv")
    )
    _, first = ground.start("one")
    _, second = ground.start("two")
    assert second.changes_since(first) == ("nowhere://bucket/rows.csv has changed",)


def test_the_last_judged_run_is_the_one_judged_last(ground: Ground) -> None:
    assert last_judged_run(ground.layout) is None
    early, late, unjudged = (ground.start(name)[0] for name in ("b-early", "a-late", "c-unjudged"))
    ground.judge(early, minute=10)
    ground.judge(late, minute=20)
    found = last_judged_run(ground.layout)
    assert found is not None
    assert found.folder == "a-late"
    assert found.fingerprint == Fingerprint.read(unjudged.fingerprint)


def test_a_run_whose_fingerprint_is_broken_is_passed_over(ground: Ground) -> None:
    early, late = (ground.start(name)[0] for name in ("early", "late"))
    ground.judge(early, minute=10)
    ground.judge(late, minute=20)
    late.fingerprint.write_text("{")
    found = last_judged_run(ground.layout)
    assert found is not None
    assert found.folder == "early"
