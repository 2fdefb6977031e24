"""Metrics under the names that TensorFlow Serving gives them, in Prometheus's text format.

Source: tensorflow_serving/servables/tensorflow/util.cc and util/prometheus_exporter.cc: slashes
are colons, counters have no `_total`, times are microseconds in buckets of 10 x 1.8^n. Dashboards
that were made for the real program read these.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from serving.server.core.spans import BUCKETS, NAMES
from serving.standalone.servables import Servables

_REQUESTS = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
_LOADS = ":tensorflow:serving:model_version_state"
_SPANS = "slipway_span_seconds"  # this and the next as the servers of pipelines' models have them
_DROPPED = "slipway_prediction_log_dropped_total"
_BOUNDS = tuple(10 * 1.8**power for power in range(33))

Labels = tuple[tuple[str, str], ...]


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> list[str]:
        made, count = [], 0
        for index, one in enumerate(self.counts):
            count += one
            bound = f"{self.bounds[index]:g}" if index < len(self.bounds) else "+Inf"
            made.append(_line(f"{name}_bucket", (*labels, ("le", bound)), count))
        made.append(_line(f"{name}_sum", labels, self.total))
        made.append(_line(f"{name}_count", labels, count))
        return made


class Monitoring:
    """Counts requests of all models."""

    def __init__(self, servables: Servables) -> None:
        self._servables = servables
        self._requests: Counter[Labels] = Counter()
        self._latencies: dict[Labels, _Histogram] = {}
        self._spans: dict[Labels, _Histogram] = {}
        self._dropped = 0

    def observe(self, model: str, method: str, front: str, status: str, seconds: float) -> None:
        """One request was answered.

        Args:
            model: As the caller named it.
            method: `predict`, `classify`, `Predict` and so on.
            front: `REST` or `GRPC`.
            status: The name of its gRPC status, `OK` if it went well.
            seconds: How long it took.
        """
        if not self._servables.knows(model):
            model = ""
        self._requests[("model_name", model), ("status", status)] += 1
        if status == "OK":
            labels = (("model_name", model), ("API", method), ("entrypoint", front))
            self._latencies.setdefault(labels, _Histogram(_BOUNDS)).observe(seconds * 1e6)

    def observe_spans(self, model: str, seconds: Iterable[float]) -> None:
        """One prediction answered; how long each of its spans took, in the order of `NAMES`."""
        for name, taken in zip(NAMES, seconds, strict=True):
            labels = (("model_name", model), ("span", name))
            self._spans.setdefault(labels, _Histogram(BUCKETS)).observe(taken)

    def observe_dropped(self, requests: int) -> None:
        """Count requests that were not logged."""
        self._dropped += requests

    def exposition(self) -> bytes:
        """Return everything as Prometheus reads it."""
        lines = [f"# TYPE {_REQUESTS} counter"]
        lines += [_line(_REQUESTS, labels, n) for labels, n in self._requests.items()]
        lines.append(f"# TYPE {_LATENCY} histogram")
        for labels, histogram in self._latencies.items():
            lines += histogram.lines(_LATENCY, labels)
        lines.append(f"# TYPE {_SPANS} histogram")
        for labels, histogram in self._spans.items():
            lines += histogram.lines(_SPANS, labels)
        lines.append(f"# TYPE {_LOADS} gauge")
        for version in self._servables.versions():
            labels = (
                ("model_name", version.model),
                ("version", str(version.number)),
                ("state", version.state),
            )
            lines.append(_line(_LOADS, labels, 1))
        lines += [f"# TYPE {_DROPPED} counter", f"{_DROPPED} {self._dropped}"]
        return "\n".join([*lines, ""]).encode()


def _line(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return (
        f"{name}{{{written}}} {value:g}"
        if isinstance(value, float)
        else (f"{name}{{{written}}} {value}")
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
