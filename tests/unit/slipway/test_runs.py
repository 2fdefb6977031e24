"""Runs in the Python API: what they measured, how they ended, what is refused."""

import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import slipway
from cli.runs.outcome import Ending
from cli.runs.starting import ready_run
from contract.command import StepCommand
from contract.errors import (
    ConfigError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord, Metric
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord, LadderStep
from slipway.cell import Progress, show_until_ended
from slipway.run import Run
from slipway.work import Cancelled, Work, WorkBoard, quiet

NOW = "2026-01-01T00:00:00Z"
RUN = "local-20260101T000000-0000"


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path / "slipway-home" / "artifacts", "digits", RUN)


def leave(run: RunLayout, step: str, record: Record | None = None) -> None:
    Result(
        step=step,
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=1,
        started_at=NOW,
        seconds=1.5,
        inputs={},
        detail=record.model_dump(mode="json") if record is not None else {},
    ).write(run.result(step))


def blessed(*, is_blessed: bool = True) -> BlessRecord:
    own = {"digit": {"accuracy": Metric(value=0.9, low=0.8, high=0.95)}}
    champion = {"digit": {"accuracy": Metric(value=0.85, low=0.7, high=0.9)}}
    return BlessRecord(
        is_blessed=is_blessed,
        candidate="candidate",
        step=100,
        champion_version=2,
        metrics={**own, "size": {"rmse": Metric(value=2.0, low=1.5, high=2.5)}},
        champion_metrics=champion,
        reasons=("accuracy 0.9 [at least 0.8]",),
    )


def rolled_back() -> DeployRecord:
    rung = LadderStep(
        name="5 %",
        weight_percent=5,
        requests=60,
        errors=6,
        decision="rollback",
        reason="errors decided",
        seconds=14.0,
    )
    return DeployRecord(
        stage="canary",
        outcome="rolled_back",
        version=3,
        canary_requests=60,
        ladder=(rung,),
        reasons=("errors [10 %] decided",),
    )


# --- what it measured ---------------------------------------------------------------------------


def test_metrics_are_a_frame_with_intervals_and_the_champion(layout: RunLayout) -> None:
    leave(layout, "bless", blessed())
    found = Run("digits", RUN).metrics
    assert found.index.names == ["head", "metric"]
    assert found.columns.tolist() == ["value", "low", "high", "champion"]
    assert found.loc[("digit", "accuracy")].tolist() == [0.9, 0.8, 0.95, 0.85]
    assert found.loc[("size", "rmse"), "champion"] != found.loc[("size", "rmse"), "champion"]  # NaN


def test_a_run_that_has_not_got_so_far_has_no_metrics(layout: RunLayout) -> None:
    leave(layout, "ingest")
    with pytest.raises(NotFoundError, match="no metrics yet: step 'bless' measures them"):
        _ = Run("digits", RUN).metrics


def test_the_report_says_how_it_ended_and_why(layout: RunLayout) -> None:
    leave(layout, "bless", blessed())
    leave(layout, "canary", rolled_back())
    report = Run("digits", RUN).report()
    text = " ".join(str(report).split())
    assert f"digits, run {RUN}: rolled_back, version 3" in text
    assert "errors [10 %] decided" in text  # words in brackets, and not markup
    assert "│ 5 % │ 60 │ 6 │ rollback │ 14 │ errors decided │" in text
    assert "│ digit │ accuracy │ 0.9 │ 0.8 │ 0.95 │" in text
    cell: Any = report
    html = cell._repr_mimebundle_([], [])["text/html"]
    assert "errors decided" in html


# --- how it ended -------------------------------------------------------------------------------


def test_a_refused_model_is_a_result_and_cannot_be_deployed(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(layout, "bless", blessed(is_blessed=False))
    run = Run("digits", RUN)
    assert run.follow() is run
    assert (run.outcome, run.reasons) == ("not blessed", ("accuracy 0.9 [at least 0.8]",))
    assert repr(run) == f"<Run {RUN} of digits: not blessed>"
    with pytest.raises(ServiceUnavailableError, match="start them with 'slipway up'"):
        run.deploy()
    monkeypatch.setattr("cli.stack.stack_file.require_stack", lambda: None)
    with pytest.raises(UserError, match="not blessed: nothing to deploy: accuracy 0.9"):
        run.deploy()


def test_a_run_nobody_has_is_named() -> None:
    with pytest.raises(NotFoundError, match="digits: no run local-gone"):
        _ = Run("digits", "local-gone").outcome


@pytest.mark.parametrize(("exit_code", "kind"), [(2, UserError), (1, SlipwayError)])
def test_a_failed_run_raises_with_step_reasons_and_log(
    exit_code: int, kind: type[SlipwayError], capsys: pytest.CaptureFixture[str]
) -> None:
    ending = Ending(exit_code, "failed", ("wrong data",), failed_step="ingest", log=("last line",))
    run = Run("digits", RUN, Work(board(), lambda _: ending))
    with pytest.raises(kind, match=f"{RUN} failed in 'ingest'\nwrong data\nlast line") as caught:
        run.follow()
    assert type(caught.value) is kind
    assert capsys.readouterr() == ("", "")


def test_what_a_run_raises_is_raised_where_it_is_waited_for() -> None:
    def fail(_: WorkBoard) -> Ending:
        raise ConfigError(["train.steps: wrong"])

    with pytest.raises(ConfigError, match=r"train\.steps: wrong"):
        Run("digits", RUN, Work(board(), fail)).wait()


# --- what is refused ----------------------------------------------------------------------------


def test_a_run_says_at_once_what_is_wrong() -> None:
    digits = slipway.connect().pipeline("digits")
    with pytest.raises(ConfigError, match="unknown key; did you mean 'steps'"):
        digits.run(local=True, set={"train.stepps": 200})
    with pytest.raises(UserError, match="deploy=True: expected local=True, too"):
        digits.run(deploy=True)
    none: dict[str, Any] = {}
    for settings in ({"local": True, "deploy": True}, none):
        with pytest.raises(ServiceUnavailableError, match="no services are running"):
            digits.run(**settings)


def test_asking_needs_services() -> None:
    import pandas as pd

    digits = slipway.connect().pipeline("digits")
    with pytest.raises(ServiceUnavailableError, match="no services are running"):
        digits.predict(pd.DataFrame({"image": [[0.0]]}))
    with (
        pytest.raises(ServiceUnavailableError, match="no services are running"),
        digits.replay(1.0),
    ):
        pass
    with pytest.raises(ServiceUnavailableError, match="no services are running"):
        _ = slipway.Version("digits", 1, "promoted").url


def test_an_unknown_pipeline_has_the_nearest_name() -> None:
    with pytest.raises(NotFoundError, match="'digit': not found; did you mean 'digits'"):
        slipway.connect().pipeline("digit")


def test_what_cannot_be_resumed_or_cancelled_says_why(layout: RunLayout) -> None:
    with pytest.raises(UserError, match="local run local-gone not found"):
        Run("digits", "local-gone").resume()
    with pytest.raises(UserError, match="a run in Airflow is resumed there"):
        Run("digits", "api-1").resume()
    with pytest.raises(UserError, match="it has ended, or runs in another process"):
        Run("digits", RUN).cancel()


def test_a_check_tells_what_is_wrong_and_can_insist() -> None:
    check = slipway.connect().pipeline("digits").check(set={"train.stepps": 1})
    assert not check.is_ok
    assert check.frame["state"].tolist() == ["error"]
    assert "did you mean 'steps'" in repr(check)
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        check.require()


def test_connect_says_what_this_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_PIPELINES", "")
    sw = slipway.connect(home=tmp_path / "elsewhere")
    assert sw.services is None
    assert {"digits", "census", "mnist"} <= set(sw.pipelines)
    assert repr(sw).endswith("no services are running>")
    assert slipway.connect().services is None


def test_what_a_kernel_sets_for_itself_does_not_reach_components(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A component started with them would not be forked from a warm parent."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("OF_THE_USER", "kept")
    ready = ready_run(StepCommand("ingest", "digits", RUN, str(tmp_path)), False)
    assert ready.local.environment["OF_THE_USER"] == "kept"
    assert not {"MPLBACKEND", "TF_USE_LEGACY_KERAS"} & ready.local.environment.keys()


def test_importing_it_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ("tensorflow", "airflow", "mlflow", "apache_beam", "pandas", "pydantic", "pyarrow")
    code = f"import sys, slipway; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- work in the background ---------------------------------------------------------------------


def board() -> WorkBoard:
    return WorkBoard("digits", [["ingest"], ["train", "evaluate"]], None, quiet())


def test_cancelling_ends_the_work_at_its_next_step() -> None:
    begun, cleaned = threading.Event(), threading.Event()

    def work(shown: WorkBoard) -> Ending:
        begun.set()
        try:
            while True:
                shown.update("ingest", "running")
                time.sleep(0.01)
        finally:
            shown.update("ingest", "failed")  # what cleans up may tell of it
            cleaned.set()

    running = Work(board(), work)
    assert begun.wait(10)
    running.cancel()
    assert cleaned.is_set()
    assert not running.is_running
    with pytest.raises(Cancelled):
        running.result()


def test_a_bar_counts_the_steps_that_have_ended() -> None:
    shown = board()
    shown.update("ingest", "running")
    shown.update("ingest", "done")
    shown.update("train", "running")
    assert Progress(shown).ended == 1
    text = io.StringIO()
    Console(file=text, width=80).print(Progress(shown))
    lines = text.getvalue().splitlines()
    assert lines[0].count("━") == 20  # a third of 60 characters; without colors the rest is blank
    assert "digits" in lines[1]
    assert [line.split()[1] for line in lines[2:]] == ["ingest", "train", "evaluate"]


def test_where_nothing_can_be_drawn_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def work(shown: WorkBoard) -> Ending:
        for state in ("running", "done"):
            shown.update("ingest", state)
        return Ending(0, "done")

    running = Work(board(), work)
    show_until_ended(running)
    assert running.result().outcome == "done"
    assert capsys.readouterr() == ("", "")
