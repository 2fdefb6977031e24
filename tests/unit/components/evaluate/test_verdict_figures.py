"""A verdict as MLflow's flat names, once."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from components.evaluate.figures import Figures
from components.tracking import Tracker
from contract.records import Metric, Verdict


class MlflowServer:
    """Stands in for MLflow's client: keeps batches, and answers which steps it has."""

    def __init__(self, known_steps: tuple[int, ...] = ()) -> None:
        self.batches: list[list[tuple[str, float, int]]] = []
        self._known = known_steps

    def log_batch(self, _run_id: str, metrics: list[Any], synchronous: bool) -> None:
        assert not synchronous
        self.batches.append([(metric.key, metric.value, metric.step) for metric in metrics])

    def set_terminated(self, _run_id: str, status: str) -> None:
        assert status == "FINISHED"

    def get_metric_history(self, _run_id: str, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(step=step) for step in self._known if name == "lag_seconds"]


def verdict(step: int, slices: int = 0) -> Verdict:
    metrics = {"kind": {"auc": Metric(value=0.8, low=0.7, high=0.9)}}
    return Verdict(
        step=step,
        examples=9,
        metrics=metrics,
        slices={f"colour={number}": metrics for number in range(slices)},
        judged_at=datetime.now(UTC),
        lag_seconds=1.5,
    )


def test_names_say_slice_head_metric_and_bound():
    server = MlflowServer()
    Figures(Tracker(server, "r")).log(verdict(10, slices=1))  # type: ignore[arg-type]
    assert server.batches == [
        [
            ("kind/auc", 0.8, 10),
            ("kind/auc_low", 0.7, 10),
            ("kind/auc_high", 0.9, 10),
            ("colour_0/kind/auc", 0.8, 10),
            ("colour_0/kind/auc_low", 0.7, 10),
            ("colour_0/kind/auc_high", 0.9, 10),
            ("lag_seconds", 1.5, 10),
        ]
    ]


def test_a_logged_verdict_is_not_logged_again():
    server = MlflowServer(known_steps=(10,))
    tracker = Tracker(server, "r")  # type: ignore[arg-type]
    figures = Figures(tracker)
    for step in (10, 20, 20):
        figures.log(verdict(step))
    tracker.finish("FINISHED")
    assert [batch[0][2] for batch in server.batches] == [20]


def test_many_figures_go_in_batches_that_mlflow_takes_and_the_mark_goes_last():
    server = MlflowServer()
    Figures(Tracker(server, "r")).log(verdict(10, slices=700))  # type: ignore[arg-type]
    assert sum(map(len, server.batches)) == 3 + 700 * 3 + 1
    assert max(map(len, server.batches)) <= 1000
    assert server.batches[-1][-1][0] == "lag_seconds"
