"""A verdict as MLflow's flat names, once."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from components.evaluate.mlflow_figures import Figures
from components.runs.tracking import Tracker
from contract.records.evaluation import Curve, Curves, Metric, Verdict
from contract.schema.data import HeadConfig

HEADS = {"kind": HeadConfig(task="binary_classification", classes=("no", "yes"))}


class MlflowServer:
    """Stands in for MLflow's client: keeps batches, and answers which steps it has."""

    def __init__(self, known_steps: tuple[int, ...] = ()) -> None:
        self.batches: list[list[tuple[str, float, int]]] = []
        self._known = known_steps
        self.images: list[str] = []
        self.times: set[int] = set()

    def log_batch(self, _run_id: str, metrics: list[Any], synchronous: bool) -> None:
        assert not synchronous
        self.times |= {metric.timestamp for metric in metrics}
        self.batches.append([(metric.key, metric.value, metric.step) for metric in metrics])

    def set_terminated(self, _run_id: str, status: str) -> None:
        assert status == "FINISHED"

    def list_artifacts(self, _run_id: str, path: str) -> list[SimpleNamespace]:
        assert path == "images"
        return [SimpleNamespace(path=f"images/{name}") for name in self.images]

    def log_image(self, _run_id: str, _pixels: Any, key: str, step: int, synchronous: bool) -> None:
        assert synchronous
        self.images.append(f"{key}+step+{step}+timestamp+1+u.png")

    def get_metric_history(self, _run_id: str, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(step=step) for step in self._known if name == "lag_seconds"]


def verdict(step: int, slices: int = 0) -> Verdict:
    metrics = {"kind": {"auc": Metric(value=0.8, low=0.7, high=0.9)}}
    return Verdict(
        step=step,
        examples=9,
        metrics=metrics,
        slices={f"colour={number}": metrics for number in range(slices)},
        curves={"kind": Curves(reliability=Curve(x=(0.1, 0.9), y=(0.2, 0.8)))},
        judged_at=datetime.now(UTC),
        lag_seconds=1.5,
    )


def test_names_say_slice_head_metric_and_bound():
    server = MlflowServer()
    Figures(Tracker(server, "r"), HEADS).log(verdict(10, slices=1))  # type: ignore[arg-type]
    assert server.batches == [
        [
            ("kind/auc", 0.8, 10),
            ("kind/auc_low", 0.7, 10),
            ("kind/auc_high", 0.9, 10),
            ("colour_0/kind/auc", 0.8, 10),
            ("colour_0/kind/auc_low", 0.7, 10),
            ("colour_0/kind/auc_high", 0.9, 10),
            ("judge_seconds", 0.0, 10),
            ("lag_seconds", 1.5, 10),
        ]
    ]


def test_what_an_earlier_attempt_has_logged_is_known():
    server = MlflowServer(known_steps=(10,))
    assert Figures(Tracker(server, "r"), HEADS).logged == {10}  # type: ignore[arg-type]


def test_a_verdict_logged_twice_has_the_same_time_so_that_mlflow_keeps_one():
    server, one = MlflowServer(), verdict(10)
    for _ in range(2):
        tracker = Tracker(server, "r")  # type: ignore[arg-type]
        Figures(tracker, HEADS).log(one)
    assert len(server.batches) == 2
    assert server.times == {round(one.judged_at.timestamp() * 1000)}


def test_a_picture_is_drawn_once_though_the_process_begins_anew():
    server = MlflowServer()
    for _ in range(2):
        figures = Figures(Tracker(server, "r"), HEADS)  # type: ignore[arg-type]
        for step in (10, 20, 20):
            figures.draw(verdict(step))
    assert server.images == ["kind+step+10+timestamp+1+u.png", "kind+step+20+timestamp+1+u.png"]


def test_many_figures_go_in_batches_that_mlflow_takes_and_the_mark_goes_last():
    server = MlflowServer()
    Figures(Tracker(server, "r"), HEADS).log(verdict(10, slices=700))  # type: ignore[arg-type]
    assert sum(map(len, server.batches)) == 3 + 700 * 3 + 2
    assert max(map(len, server.batches)) <= 1000
    assert server.batches[-1][-1][0] == "lag_seconds"
