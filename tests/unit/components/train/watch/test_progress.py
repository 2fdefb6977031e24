"""What is reported of a training, when, and what a retry leaves out."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from components.runs.tracking import Tracker
from components.train.watch.progress import Progress
from contract.schema.training import TrainConfig

CONFIG = TrainConfig(steps=100, batch_size=10)


class Clock:
    """Shows the second that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class MlflowServer:
    """Stands in for MLflow's client: keeps what it is sent, and knows some steps already."""

    def __init__(self, known_steps: tuple[int, ...] = ()) -> None:
        self.sent: list[tuple[str, float, int]] = []
        self.awaited = 0
        self.fails_at = 0
        self.awaited_at_end = -1
        self._known = known_steps

    def log_batch(self, _run_id: str, metrics: list[Any], synchronous: bool) -> SimpleNamespace:
        assert not synchronous
        self.sent += [(metric.key, metric.value, metric.step) for metric in metrics]
        return SimpleNamespace(wait=self._answer)

    def _answer(self) -> None:
        self.awaited += 1
        if self.awaited == self.fails_at:
            raise ConnectionError("reset by MLflow")

    def set_terminated(self, _run_id: str, status: str) -> None:
        assert status == "FINISHED"
        self.awaited_at_end = self.awaited

    def get_metric_history(self, _run_id: str, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(step=step) for step in self._known if name == "loss"]


def figures(rate: float, loss: float = 1.0) -> dict[str, float]:
    return {"loss": loss, "examples_per_second": rate}


def test_figures_go_to_mlflow_at_their_step():
    server = MlflowServer()
    tracker = Tracker(server, "r")  # type: ignore[arg-type]
    progress = Progress(CONFIG, tracker, Clock())
    progress.start()
    progress.report(20, figures(50.0, 0.5))
    progress.report(40, figures(100.0, 0.25))
    tracker.finish("FINISHED")
    assert server.sent == [
        ("loss", 0.5, 20),
        ("examples_per_second", 50.0, 20),
        ("loss", 0.25, 40),
        ("examples_per_second", 100.0, 40),
    ]


@pytest.mark.parametrize(("fails_at", "complaints"), [(0, 0), (1, 1)])
def test_a_run_ends_when_mlflow_has_answered_to_all_batches(
    fails_at: int, complaints: int, caplog: pytest.LogCaptureFixture
):
    server = MlflowServer()
    server.fails_at = fails_at
    tracker = Tracker(server, "r")  # type: ignore[arg-type]
    tracker.log_metrics({"loss": 1.0})  # is sent at once
    tracker.log_metrics({"loss": 0.5}, step=1)  # waits, and is sent at the end
    tracker.finish("FINISHED")
    assert len(server.sent) == 2
    assert server.awaited_at_end == 2
    assert caplog.text.count("MLflow: ConnectionError: ['reset by MLflow']") == complaints


def test_line_says_step_loss_rate_and_time_left(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(CONFIG, Tracker(), clock)
    progress.start()
    clock.now = 4.0
    progress.report(20, figures(50.0, 0.5))
    # 80 steps of 10 examples at 50 a second
    assert "step 20 of 100, loss 0.5000, 50 examples/s, 16 s left" in caplog.text


def test_lines_come_every_two_seconds_and_at_the_end(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(CONFIG, Tracker(), clock)
    progress.start()
    for step in range(10, 101, 10):
        clock.now += 0.5
        progress.report(step, figures(10.0))
    steps = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    assert steps == [40, 80, 100]


def test_steps_that_a_killed_attempt_logged_are_not_logged_again():
    server = MlflowServer(known_steps=(20, 40))
    tracker = Tracker(server, "r")  # type: ignore[arg-type]
    progress = Progress(CONFIG, tracker, Clock())
    progress.start()
    for step in (20, 40, 60):
        progress.report(step, figures(10.0))
    tracker.finish("FINISHED")
    assert {step for _, _, step in server.sent} == {60}
