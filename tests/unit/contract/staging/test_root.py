"""Steps whose root is an object store (fsspec's in memory), on one machine and on several."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from components.runs.step import Outcome, Step, run_step
from contract.command import StepCommand
from contract.errors import ConfigError, ConflictError, NotFoundError, StorageError
from contract.layout import PipelineLayout, RunLayout
from contract.records.record import EndedBy, Failure, Record, Result
from contract.staging.root import open_root
from contract.staging.scratch import SCRATCH, scratch_of
from contract.staging.trees import StoredFile
from contract.storage import Attempt
from contract.stores import store_of
from contract.tracked_run import parent_run_id

ROOT = "memory://bucket/models"
YAML = """
name: houses
features: {rooms: {dtype: int64}}
heads: {price: {task: regression}}
ingest: {source: {kind: sklearn, dataset: iris}}
"""


class Brick(Record):
    """What the steps under test hand on."""

    colour: str


@pytest.fixture(autouse=True)
def _pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "pipelines" / "houses"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(YAML)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder.parent))
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Path]:
    """Return the scratch folder of a machine by its name: what `--root` may be there."""
    return lambda name: scratch_of(ROOT, {SCRATCH: str(tmp_path / name)})


def command(root: Path | str, step: str = "ingest") -> StepCommand:
    return StepCommand(step, "houses", "r1", str(root))


def layout(root: Path) -> RunLayout:
    return RunLayout(root, "houses", "r1")


def laying(colour: str) -> Callable[[Step], Outcome]:
    def work(step: Step) -> Outcome:
        (step.output / "wall" / "empty").mkdir(parents=True)
        (step.output / "wall" / "one").write_text(colour)
        (step.output / "wall" / "two").write_text(colour)
        return Outcome(Brick(colour=colour), {"wall": "wall"}, {"bricks": 2.0})

    return work


def looking(step: Step) -> Outcome:
    """Copy what `ingest` has left."""
    wall = step.run.step("ingest") / "wall"
    assert (wall / "empty").is_dir()
    (step.output / "seen").write_text((wall / "one").read_text() + (wall / "two").read_text())
    step.run.of_pipeline.data_schema.write_text("{}")
    return Outcome(Brick(colour="?"), {"seen": "seen"})


def objects() -> set[str]:
    return {path for path in MemoryFileSystem.store if "/.objects/" in path}


def test_a_result_is_that_of_a_volume_and_another_machine_continues(
    machine: Callable[[str], Path], tmp_path: Path
) -> None:
    on_volume = run_step(command(tmp_path / "volume"), laying("red"))
    in_store = run_step(command(machine("a")), laying("red"))
    assert (in_store.artifacts, in_store.inputs) == (on_volume.artifacts, on_volume.inputs)
    assert len([path for path in objects() if MemoryFileSystem.store[path].size == 3]) == 1

    run_step(command(machine("b"), "validate"), looking)
    assert (layout(machine("b")).step("validate") / "seen").read_text() == "redred"
    assert Result.read(layout(machine("b")).result("ingest")) == in_store


def test_a_step_that_is_done_is_skipped_on_another_machine(machine: Callable[[str], Path]) -> None:
    done = run_step(command(machine("a")), laying("red"))
    assert run_step(command(machine("b")), laying("blue")) == done
    assert not (layout(machine("b")).step("ingest") / "wall").exists()


def test_why_a_step_failed_is_known_on_another_machine(machine: Callable[[str], Path]) -> None:
    def failing(colour: str) -> Callable[[Step], Outcome]:
        def work(step: Step) -> Outcome:
            raise ConfigError([f"no {colour} bricks"])

        return work

    def known(name: str) -> Failure:
        open_root(str(machine(name))).fetch(layout(machine(name)))
        return Failure.read(layout(machine(name)).failure("ingest"))

    with pytest.raises(ConfigError):
        run_step(command(machine("a")), failing("red"))
    assert (known("b").attempt, known("b").exit_code) == (1, 2)
    with pytest.raises(ConfigError):
        run_step(command(machine("b")), failing("blue"))
    assert "no blue bricks" in known("a").reason

    earlier = known("a").model_copy(update={"attempt": 1})
    notes = store_of(layout(machine("a")).attempts("ingest"))
    notes.write("failure.json", earlier.model_dump_json())
    assert known("a").attempt == 2  # the store has not got it: it was away


def test_who_ended_a_run_is_known_on_all_machines_until_it_is_resumed(
    machine: Callable[[str], Path],
) -> None:
    run_step(command(machine("a")), laying("red"))
    here, there = layout(machine("a")), layout(machine("b"))
    EndedBy(who="ada", is_person=True, ended_at=datetime.now(UTC)).write(here.ended_by)
    open_root(str(machine("a"))).share_end(here)
    open_root(str(machine("b"))).fetch(there)
    assert EndedBy.read(there.ended_by).who == "ada"

    there.ended_by.unlink()
    open_root(str(machine("b"))).share_end(there)
    open_root(str(machine("a"))).fetch(here)
    assert not here.ended_by.exists()


def test_the_mlflow_run_of_a_run_is_noted_for_all_machines(machine: Callable[[str], Path]) -> None:
    notes = [store_of(layout(machine(name)).tracking_notes) for name in ("a", "b")]
    assert [note.create("run", f"by {i}") for i, note in enumerate(notes)] == [True, False]
    assert {parent_run_id(layout(machine(name))) for name in ("a", "b", "c")} == {"by 0"}


def test_a_uri_and_its_scratch_folder_are_one_root(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SCRATCH, str(tmp_path / "a"))
    done = run_step(command(ROOT), laying("red"))
    assert run_step(command(machine("a")), laying("blue")) == done
    assert scratch_of(f"{ROOT}/") == machine("a")


def test_a_stale_attempt_publishes_nothing_that_is_seen(machine: Callable[[str], Path]) -> None:
    def overtaken(step: Step) -> Outcome:
        run_step(command(machine("b")), laying("blue"))
        return laying("red")(step)

    with pytest.raises(ConflictError, match="attempt 1 of ingest was overtaken by attempt 2"):
        run_step(command(machine("a")), overtaken)
    for name in ("a", "b", "c"):
        open_root(str(machine(name))).fetch(layout(machine(name)))
        result = Result.read(layout(machine(name)).result("ingest"))
        assert (result.attempt, result.detail_as(Brick).colour) == (2, "blue")


def test_what_a_stale_attempt_wrote_past_all_checks_does_not_count(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had stopped between its last check and its write, and the later one still works."""
    root = open_root(str(machine("a")))
    root.fetch(layout(machine("a")))
    with monkeypatch.context() as patched:
        patched.setattr(Attempt, "check", lambda _: None)

        def late(step: Step) -> Outcome:
            Attempt.claim(layout(machine("b")).attempts("ingest"))
            return laying("red")(step)

        run_step(command(machine("a")), late)
    open_root(str(machine("c"))).fetch(layout(machine("c")))
    assert not layout(machine("c")).result("ingest").exists()


def test_of_two_claimants_exactly_one_publishes(machine: Callable[[str], Path]) -> None:
    both_claimed, ends = threading.Barrier(2), list[str]()

    def run(name: str) -> None:
        def work(step: Step) -> Outcome:
            both_claimed.wait(20)
            return laying(name)(step)

        try:
            run_step(command(machine(name)), work)
            ends.append(f"{name} published")
        except ConflictError:
            ends.append("overtaken")

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [end.removesuffix(" published") for end in ends if end != "overtaken"]
    assert len(ends) == 2
    open_root(str(machine("c"))).fetch(layout(machine("c")))
    result = Result.read(layout(machine("c")).result("ingest"))
    assert (result.attempt, result.detail_as(Brick).colour) == (2, winner)


def test_a_store_that_fails_in_the_middle_shows_nothing_and_a_retry_continues(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(step: Step) -> Outcome:
        for name in "abc":
            (step.output / name).write_text(name)
        return Outcome(Brick(colour="red"), {name: name for name in "abc"})

    run_step(command(machine("a")), laying("red"))
    (layout(machine("a")).frozen_pipeline / "later.py").write_text("# another code: run again")
    put, written = MemoryFileSystem.put_file, list[str]()

    def failing(self: MemoryFileSystem, lpath: str, rpath: str, **options: object) -> None:
        if len(written) == 2:
            raise OSError("the network is gone")
        written.append(rpath)
        put(self, lpath, rpath, **options)

    MemoryFileSystem.store.clear()
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "put_file", failing)
        written.append("nothing yet")
        with pytest.raises(StorageError, match="cannot write: the network is gone"):
            run_step(command(machine("a")), work)
    open_root(str(machine("b"))).fetch(layout(machine("b")))
    assert not layout(machine("b")).result("ingest").exists()
    before = objects()
    run_step(command(machine("a")), work)
    assert before < objects()
    run_step(command(machine("b")), work)
    assert Result.read(layout(machine("b")).result("ingest")).artifacts.keys() == {*"abc"}


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_refused(
    machine: Callable[[str], Path],
) -> None:
    run_step(command(machine("a")), laying("red"))
    wall = layout(machine("a")).step("ingest") / "wall" / "one"
    wall.write_text("rad")
    run_step(command(machine("a"), "validate"), looking)
    assert wall.read_text() == "red"

    (damaged,) = [path for path in objects() if MemoryFileSystem.store[path].getvalue() == b"red"]
    MemoryFileSystem().pipe_file(damaged, b"rad")
    with pytest.raises(StorageError, match="damaged; run the step again"):
        run_step(command(machine("b"), "transform"), looking)
    assert not (layout(machine("b")).step("ingest") / "wall").exists()


def test_what_the_store_has_lost_is_not_believed(machine: Callable[[str], Path]) -> None:
    run_step(command(machine("a")), laying("red"))
    MemoryFileSystem.store.clear()
    with pytest.raises(NotFoundError, match="needs the result of 'ingest'"):
        run_step(command(machine("a"), "validate"), looking)
    assert run_step(command(machine("a")), laying("blue")).detail_as(Brick).colour == "blue"


def test_version_numbers_are_given_once_to_all_machines(machine: Callable[[str], Path]) -> None:
    folders = [PipelineLayout(machine(name), "houses").version_numbers for name in "abab"]
    assert [Attempt.claim(folder).number for folder in folders] == [1, 2, 3, 4]


def test_the_data_schema_and_the_last_run_come_to_another_machine(
    machine: Callable[[str], Path],
) -> None:
    run_step(command(machine("a")), laying("red"))
    run_step(command(machine("a"), "validate"), looking)
    for step, work in (("ingest", laying("red")), ("validate", looking)):
        run_step(StepCommand(step, "houses", "r2", str(machine("b"))), work)
    pipeline = PipelineLayout(machine("b"), "houses")
    assert pipeline.data_schema.read_text() == "{}"
    assert (pipeline.run("r1").step("validate") / "seen").read_text() == "redred"


def test_a_clean_scratch_folder_keeps_records_and_is_filled_again(
    machine: Callable[[str], Path],
) -> None:
    run_step(command(machine("a")), laying("red"))
    open_root(str(machine("a"))).clean(layout(machine("a")))
    assert [p.name for p in layout(machine("a")).step("ingest").iterdir()] == ["result.json"]
    run_step(command(machine("a"), "validate"), looking)


def test_a_store_that_overwrites_is_refused_before_a_run(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_root(str(machine("a")))
    root.verify()
    root.verify()
    pipe = MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem, "pipe_file", lambda self, path, value, **_: pipe(self, path, value)
    )
    with pytest.raises(ConfigError, match="expected one with conditional writes, or a volume"):
        root.verify()


@pytest.mark.parametrize("path", ["/etc/passwd", "../run", "a/../../b"])
def test_a_list_of_files_cannot_lead_out_of_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="leads out of the folder"):
        StoredFile(path=path, digest="sha256:0")
