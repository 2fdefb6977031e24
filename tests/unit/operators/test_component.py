import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contract.command import StepCommand
from contract.records.record import Failure, Result
from operators.component import ComponentOperator, PipelineRef
from operators.run_request import RunRequest

RUN_ID = "manual__2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Script(StepCommand):
    """A command line of ours in the component's place: what runs is a process all the same."""

    lines: tuple[str, ...] = ()

    def arguments(self, python: str = sys.executable, program: Sequence[str] = ()) -> list[str]:
        assert not program
        return [python, "-c", "\n".join(self.lines)]


@dataclass
class Scene:
    """An operator in a run, with a script for a component."""

    root: Path
    pushed: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> PipelineRef:
        return PipelineRef("digits", str(self.root))

    def claim(self, attempt: int) -> list[str]:
        folder = self.pipeline.run(RUN_ID).attempts("train")
        return [
            "from pathlib import Path",
            f"Path({str(folder)!r}).mkdir(parents=True, exist_ok=True)",
            f"Path({str(folder / str(attempt))!r}).touch()",
        ]

    def leave(self, **changes: Any) -> list[str]:
        """Return the script lines that leave a result."""
        path = self.pipeline.run(RUN_ID).result("train")
        known = {"step": "train", "pipeline": "digits", "run_id": RUN_ID, "attempt": 1}
        result = Result(
            **{**known, "started_at": datetime.now(UTC), "seconds": 1.5, "inputs": {}, **changes}
        )
        return [
            "from pathlib import Path",
            f"Path({str(path.parent)!r}).mkdir(parents=True, exist_ok=True)",
            f"Path({str(path)!r}).write_text({result.model_dump_json()!r})",
        ]

    def execute(self, *lines: str) -> dict[str, Any]:
        class Scripted(ComponentOperator):
            def build(self, run_id: str, request: RunRequest) -> StepCommand:
                command = super().build(run_id, request)
                return Script(**vars(command), lines=lines)

        task_instance = SimpleNamespace(
            xcom_push=lambda key, value: self.pushed.update({key: value})
        )
        context = {"run_id": RUN_ID, "dag_run": SimpleNamespace(conf={}), "ti": task_instance}
        return Scripted(task_id="train", pipeline=self.pipeline).execute(context)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "root")


def test_the_command_is_the_components_and_carries_no_overrides() -> None:
    operator = ComponentOperator(task_id="canary", pipeline=PipelineRef("digits", "/data"))
    request = RunRequest(overrides={"train.steps": 3}, redeploy_version=4)
    assert operator.build("r1", request).arguments("python") == [
        *("python", "-m", "components.deploy"),
        *("--pipeline", "digits", "--run-id", "r1", "--root", "/data"),
        *("--stage", "canary", "--redeploy-version", "4"),
    ]


def test_a_step_that_leaves_its_result_succeeds_and_passes_on_a_summary(scene: Scene) -> None:
    lines = [*scene.claim(1), *scene.leave(metrics={"loss": 0.25}, reasons=("converged",))]
    summary = scene.execute(*lines)
    assert scene.pushed == {"summary": summary}
    assert 0 < summary.pop("seconds") < 60
    assert summary == {"metrics": {"loss": 0.25}, "reasons": ["converged"]}


def test_a_step_that_found_its_result_complete_succeeds_without_a_new_attempt(
    scene: Scene,
) -> None:
    scene.execute(*scene.claim(1), *scene.leave(metrics={"loss": 0.5}))
    assert scene.execute("pass")["metrics"] == {"loss": 0.5}


def test_exit_code_0_without_a_result_is_no_success(scene: Scene) -> None:
    with pytest.raises(AirflowException, match="no Result there, although it ended with success"):
        scene.execute("pass")


def test_a_result_counts_even_if_the_process_crashed_after_it(scene: Scene) -> None:
    crash = "import os; os.abort()"
    summary = scene.execute(*scene.claim(1), *scene.leave(metrics={"loss": 1.0}), crash)
    assert summary["metrics"] == {"loss": 1.0}


def test_an_earlier_attempts_result_does_not_excuse_a_crash(scene: Scene) -> None:
    scene.execute(*scene.claim(1), *scene.leave())
    with pytest.raises(AirflowException, match="train: exit code 1"):
        scene.execute("raise SystemExit(1)")


def test_a_result_of_an_overtaken_attempt_is_refused(scene: Scene) -> None:
    with pytest.raises(AirflowException, match="not this attempt's"):
        scene.execute(*scene.claim(1), *scene.claim(2), *scene.leave(attempt=1))


@pytest.mark.parametrize("changes", [{"run_id": "another"}, {"step": "ingest"}])
def test_a_result_of_another_run_or_step_is_refused(changes: Any, scene: Scene) -> None:
    with pytest.raises(AirflowException, match="not this attempt's"):
        scene.execute(*scene.claim(1), *scene.leave(**changes))


def test_a_broken_result_is_no_success(scene: Scene) -> None:
    path = scene.pipeline.run(RUN_ID).result("train")
    truncated = [f"Path({str(path)!r}).write_text('{{')"]
    with pytest.raises(AirflowException, match="not a Result"):
        scene.execute(*scene.claim(1), *scene.leave(), *truncated)


def test_exit_code_2_fails_for_good_and_says_why(scene: Scene) -> None:
    complaint = "print('2026-01-01 10:00:00,000 ERROR digits/train: loss is NaN at step 7')"
    chatter = "print('2026-01-01 10:00:00,000 INFO step 6')"
    with pytest.raises(AirflowFailException) as failure:
        scene.execute(chatter, complaint, "raise SystemExit(2)")
    assert str(failure.value) == "train: exit code 2:\ndigits/train: loss is NaN at step 7"
    recorded = Failure.read(scene.pipeline.run(RUN_ID).failure("train"))
    assert (recorded.exit_code, recorded.attempt) == (2, 0)  # it ended before it had claimed one
    assert recorded.reason == "digits/train: loss is NaN at step 7"


def test_the_components_own_record_of_its_failure_is_kept(scene: Scene) -> None:
    own = Failure(
        step="train", attempt=1, exit_code=2, reason="its own", failed_at=datetime.now(UTC)
    )
    path = scene.pipeline.run(RUN_ID).failure("train")
    leave = f"Path({str(path)!r}).write_text({own.model_dump_json()!r})"
    with pytest.raises(AirflowFailException, match="exit code 2"):
        scene.execute(*scene.claim(1), leave, "raise SystemExit(2)")
    assert Failure.read(path) == own


def test_a_failure_of_an_earlier_attempt_does_not_stand_for_this_one(scene: Scene) -> None:
    path = scene.pipeline.run(RUN_ID).failure("train")
    earlier = Failure(
        step="train", attempt=1, exit_code=1, reason="earlier", failed_at=datetime.now(UTC)
    )
    with pytest.raises(AirflowException):
        scene.execute(*scene.claim(1), "raise SystemExit(1)")
    earlier.write(path)
    with pytest.raises(AirflowFailException, match="exit code 2"):
        scene.execute("print('no config')", "raise SystemExit(2)")
    assert (Failure.read(path).exit_code, Failure.read(path).reason) == (2, "no config")


def test_an_end_that_may_be_retried_leaves_no_record_in_the_components_name(scene: Scene) -> None:
    with pytest.raises(AirflowException, match="exit code 1"):
        scene.execute(*scene.claim(1), "raise SystemExit(1)")  # it may have been overtaken
    assert not scene.pipeline.run(RUN_ID).failure("train").exists()


def test_any_other_exit_code_may_be_retried_and_shows_the_last_lines(scene: Scene) -> None:
    with pytest.raises(AirflowException, match="exit code 137:\nlast words") as failure:
        kill = "import os; os.kill(os.getpid(), 9)"
        scene.execute("print('last words', flush=True)", kill)
    assert not isinstance(failure.value, AirflowFailException)


def test_lines_are_logged_at_their_own_level(scene: Scene) -> None:
    warning = "print('2026-01-01 10:00:00,000 WARNING 3 bad rows')"
    with structlog.testing.capture_logs() as logged:
        scene.execute(warning, "print('plain')", *scene.claim(1), *scene.leave())
    found = [(line["log_level"], line["event"]) for line in logged]
    assert found[-2:] == [("warning", "3 bad rows"), ("info", "plain")]


def test_airflows_secrets_do_not_reach_the_component(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://user:secret@host/db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    seen = tmp_path / "seen.json"
    note = f"import os, json; json.dump(dict(os.environ), open({str(seen)!r}, 'w'))"
    scene.execute(note, *scene.claim(1), *scene.leave())
    variables = json.loads(seen.read_text())
    assert not [name for name in variables if "AIRFLOW" in name]
    assert variables["MLFLOW_TRACKING_URI"] == os.environ["MLFLOW_TRACKING_URI"]


def test_a_wrong_conf_fails_for_good(scene: Scene) -> None:
    operator = ComponentOperator(task_id="train", pipeline=scene.pipeline)
    context = {"run_id": RUN_ID, "dag_run": SimpleNamespace(conf={"overides": {}})}
    with pytest.raises(AirflowFailException, match="did you mean 'overrides'"):
        operator.execute(context)
