"""What Prometheus reads from a model server."""

from collections.abc import Callable, Iterable
from functools import lru_cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from serving.server.core.batching import BatchObserver
from serving.server.core.spans import BUCKETS, NAMES

disable_created_metrics()  # one series more for each, which nobody reads

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics(BatchObserver):
    """All metrics of one server, in a separate registry."""

    def __init__(self, model: str, version: int) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        info = Gauge(
            "slipway_model_info", "The model served.", ["model", "version"], registry=registry
        )
        info.labels(model, str(version)).set(1)
        self._requests = Counter(
            "slipway_requests", "Requests answered.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "slipway_request_seconds",
            "From a request's last byte in to its answer out.",
            ["method"],
            buckets=BUCKETS,
            registry=registry,
        )
        spans = Histogram(
            "slipway_span_seconds",
            "Where an answered prediction's time went.",
            ["span"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._observe_spans = [spans.labels(name).observe for name in NAMES]
        self._batch_rows = Histogram(
            "slipway_batch_rows", "Rows in a call of the model.", buckets=_ROWS, registry=registry
        )
        self._batch_seconds = Histogram(
            "slipway_batch_seconds", "Time of a call.", buckets=BUCKETS, registry=registry
        )
        self._queue_rows = Gauge(
            "slipway_queue_rows", "Rows that wait for the model.", registry=registry
        )
        self._load_seconds = Gauge(
            "slipway_model_load_seconds", "Loading and warming up.", registry=registry
        )
        self._log_dropped = Counter(
            "slipway_prediction_log_dropped",
            "Requests not logged because the disk was too slow or full.",
            registry=registry,
        )
        self._faults = Counter(
            "slipway_faults_injected", "Requests failed on purpose.", registry=registry
        )
        # A labelled child costs three times its increment to look up.
        self._count_of = lru_cache(256)(lambda *labels: self._requests.labels(*labels).inc)
        self._observe_of = lru_cache(64)(lambda method: self._seconds.labels(method).observe)

    def observe_request(self, method: str, status: int | str, seconds: float) -> None:
        """One request answered, with an HTTP status or the name of gRPC's."""
        self._count_of(method, status)()
        self._observe_of(method)(seconds)

    def observe_spans(self, seconds: Iterable[float]) -> None:
        """One prediction answered; how long each of its spans took, in the order of `NAMES`."""
        for observe, taken in zip(self._observe_spans, seconds, strict=True):
            observe(taken)

    def observe_batch(self, rows: int, seconds: float) -> None:
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def observe_load(self, seconds: float) -> None:
        """The model is loaded and warm."""
        self._load_seconds.set(seconds)

    def observe_fault(self) -> None:
        """One request failed on purpose."""
        self._faults.inc()

    def observe_dropped(self, requests: int) -> None:
        """Count requests that were not logged."""
        self._log_dropped.inc(requests)

    def watch_queue(self, waiting_rows: Callable[[], int]) -> None:
        """Read the queue's length when Prometheus asks."""
        self._queue_rows.set_function(waiting_rows)

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
