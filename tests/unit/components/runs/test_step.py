"""What every component process promises: publish first, record last, skip, fence, continue."""

import errno
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.runs.step import Outcome, Step, run_step
from components.runs.tracking import note_told
from contract.command import StepCommand
from contract.errors import ConflictError, DataError, DiskFullError, NotFoundError
from contract.layout import RunLayout
from contract.records.record import Artifact, Failure, Record, Result
from contract.steps import STEPS
from contract.storage import Attempt
from contract.stores import store_of

YAML = """
name: houses
features: {rooms: {dtype: int64}}
heads: {price: {task: regression}}
ingest: {source: {kind: sklearn, dataset: iris}}
"""


class Brick(Record):
    """What the steps under test hand on."""

    colour: str


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pipelines" / "houses"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(YAML)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder.parent))
    return tmp_path / "root"


def command(root: Path, step: str = "ingest", **overrides: object) -> StepCommand:
    return StepCommand(step, "houses", "r1", str(root), overrides)


def layout(root: Path) -> RunLayout:
    return RunLayout(root, "houses", "r1")


def laying(colour: str) -> Callable[[Step], Outcome]:
    def work(step: Step) -> Outcome:
        (step.output / "wall").write_text(colour)
        return Outcome(Brick(colour=colour), {"wall": "wall"}, {"bricks": 1.0}, ("laid",))

    return work


def test_a_result_describes_what_was_published(root: Path) -> None:
    result = run_step(command(root), laying("red"))

    assert Result.read(layout(root).result("ingest")) == result
    assert result.detail_as(Brick).colour == "red"
    assert result.artifacts["wall"] == Artifact(
        path="wall",
        # sha256 of the three bytes "red"
        digest="sha256:b1f51a511f1da0cd348b8f8598db32e61cb963e5fc69e2b41485bf99590ed75a",
        size_bytes=3,
    )
    assert (layout(root).step("ingest") / "wall").read_text() == "red"


def test_a_failure_leaves_its_reason_and_no_result(root: Path) -> None:
    def fail(step: Step) -> Outcome:
        raise DataError(f"{step.name}: no bricks")

    run_step(command(root, "ingest"), laying("red"))
    (layout(root).step("ingest") / "wall").unlink()
    with pytest.raises(DataError, match="no bricks"):
        run_step(command(root), fail)
    found = Failure.read(layout(root).failure("ingest"))
    assert (found.attempt, found.exit_code, found.reason) == (2, 2, "ingest: no bricks")
    assert not layout(root).result("ingest").exists()


def test_a_failure_is_noted_on_a_full_disk_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no new file, but what was reserved before."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(step: Step) -> Outcome:
        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        raise DiskFullError(f"{step.output}: disk full")

    with pytest.raises(DiskFullError, match="disk full"):
        run_step(command(root), fill)
    found = Failure.read(layout(root).failure("ingest"))
    assert (found.attempt, found.exit_code) == (1, 2)
    assert found.reason.endswith("disk full")


def test_a_complete_step_is_skipped(root: Path) -> None:
    first = run_step(command(root), laying("red"))

    assert run_step(command(root), laying("blue")) == first


def test_a_step_whose_artifact_is_gone_runs_again(root: Path) -> None:
    run_step(command(root), laying("red"))
    (layout(root).step("ingest") / "wall").unlink()

    assert run_step(command(root), laying("blue")).attempt == 2


def test_mlflow_has_not_been_told_of_a_result_that_replaces_another(root: Path) -> None:
    run_step(command(root), laying("red"))
    first = Result.read(layout(root).result("ingest"))
    note_told(layout(root), first)
    notes = store_of(layout(root).tracking_notes)
    assert notes.read("ingest.told") == str(first.attempt)
    (layout(root).step("ingest") / "wall").unlink()
    assert str(run_step(command(root), laying("red")).attempt) != notes.read("ingest.told")


def test_a_step_runs_again_when_its_input_changed(root: Path) -> None:
    run_step(command(root), laying("red"))
    run_step(command(root, "validate"), laying("white"))
    layout(root).result("ingest").unlink()
    run_step(command(root), laying("blue"))

    run_step(command(root, "validate"), laying("black"))

    assert (layout(root).step("validate") / "wall").read_text() == "black"


def test_a_failed_step_leaves_no_artifact_and_no_record(root: Path) -> None:
    def failing(step: Step) -> Outcome:
        (step.output / "wall").write_text("half")
        raise DataError("no more bricks")

    with pytest.raises(DataError, match="no more bricks"):
        run_step(command(root), failing)

    assert not layout(root).step("ingest").exists()


def test_an_evaluation_is_not_done_when_training_began_again_since(root: Path) -> None:
    """Training failed and was cleared: what it makes now has no verdict yet."""
    Attempt.claim(layout(root).attempts("train"))
    for step in STEPS["evaluate"].reads:
        leave(root, step)
    first = run_step(command(root, "evaluate"), laying("red"))
    assert run_step(command(root, "evaluate"), laying("blue")) == first
    token = Attempt.claim(layout(root).attempts("train"))
    later = layout(root).result("evaluate").stat().st_mtime + 1.0
    os.utime(token.folder / str(token.number), (later, later))
    assert run_step(command(root, "evaluate"), laying("blue")).attempt == 2


def leave(root: Path, step: str) -> None:
    """Leave the result of a step without having done it."""
    Result(
        step=step,
        pipeline="houses",
        run_id="r1",
        attempt=1,
        started_at=datetime.now(UTC),
        seconds=0.0,
        inputs={},
    ).write(layout(root).result(step))


def test_an_overtaken_attempt_publishes_nothing(root: Path) -> None:
    def overtaken(step: Step) -> Outcome:
        Attempt.claim(layout(root).attempts("ingest"))
        return laying("late")(step)

    with pytest.raises(ConflictError, match="overtaken by attempt 2"):
        run_step(command(root), overtaken)

    assert not layout(root).result("ingest").exists()
    assert not (layout(root).step("ingest") / "wall").exists()


def test_train_continues_its_own_output(root: Path) -> None:
    for step in ("ingest", "validate", "transform"):
        run_step(command(root, step), laying("red"))

    def dying(step: Step) -> Outcome:
        (step.output / "first-half").write_text("kept")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run_step(command(root, "train"), dying)
    run_step(command(root, "train"), laying("red"))

    assert (layout(root).step("train") / "first-half").read_text() == "kept"


def test_a_step_without_its_input_says_which_to_run_first(root: Path) -> None:
    with pytest.raises(NotFoundError, match="'validate' needs the result of 'ingest'"):
        run_step(command(root, "validate"), laying("red"))


def test_a_redeployed_package_needs_no_earlier_step(root: Path) -> None:
    redeploy = StepCommand("package", "houses", "r1", str(root), {}, redeploy_version=4)

    result = run_step(redeploy, laying("red"))

    assert result.inputs["redeploy_version"] == "4"


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_process_exits_with_the_code_of_its_error(root: Path) -> None:
    import subprocess
    import sys

    program = (
        "from components.runs.step import main; from contract.errors import DataError\n"
        "def work(step): raise {error}('it rained')\n"
        "main('ingest', work)"
    )
    codes = {}
    for error in ("DataError", "RuntimeError"):
        arguments = command(root).arguments()[3:]
        process = subprocess.run(
            [sys.executable, "-c", program.format(error=error), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        codes[error] = process.returncode
        assert "houses/ingest" in process.stdout
        assert "it rained" in process.stdout

    assert codes == {"DataError": 2, "RuntimeError": 1}
