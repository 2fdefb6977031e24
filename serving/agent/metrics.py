"""What Prometheus reads from the agent: plans, and rollouts against their bounds.

Requests, errors and latencies are Envoy's own metrics, on its admin interface.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.errors import SlipwayError
from contract.records.rollout import Rollout
from contract.records.traffic import TrafficPlan
from serving.agent.plans import PlanStore

_TRIAL = ["pipeline", "version"]
_TEST = [*_TRIAL, "test", "side"]
_GAUGES = {
    "slipway_plan_generation": ("Number of the traffic plan that is wanted.", ["pipeline"]),
    "slipway_arm_weight_percent": (
        "Share of the callers' traffic that the plan wants.",
        ["pipeline", "arm", "version"],
    ),
    "slipway_rollout_state": ("1 for the state of the last trial.", [*_TRIAL, "state"]),
    "slipway_rollout_weight_percent": ("Share of the version on trial.", _TRIAL),
    "slipway_rollout_evidence": ("Evidence of a test, against or for the version.", _TEST),
    "slipway_rollout_bound": ("Evidence at which the test decides.", _TEST),
    "slipway_rollout_seconds_to_decision": ("Until the rung can pass; absent: unknown.", _TRIAL),
    "slipway_rollout_seconds_to_end": ("Until the last rung; absent: unknown.", _TRIAL),
    "slipway_rollout_seconds_left": ("Until the trial is inconclusive.", _TRIAL),
    "slipway_rollout_look_timestamp_seconds": ("When its controller last looked.", _TRIAL),
}
Point = tuple[str, list[str], float]


def exposition(plans: PlanStore) -> bytes:
    """Return the metrics of all pipelines in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Plans(plans))
    return generate_latest(registry)


class _Plans(Collector):
    """Reads what is on storage when it is asked."""

    def __init__(self, plans: PlanStore) -> None:
        self._plans = plans

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge, those without a value too."""
        gauges = {
            name: GaugeMetricFamily(name, help, labels=labels)
            for name, (help, labels) in _GAUGES.items()
        }
        for pipeline in self._plans.pipelines():
            for name, labels, value in self._points(pipeline):
                gauges[name].add_metric(labels, value)
        yield from gauges.values()

    def _points(self, pipeline: str) -> Iterator[Point]:
        """Yield a pipeline's points; what cannot be read is absent, and its age shows it."""
        try:
            yield from _of_plan(self._plans.current(pipeline))
            yield from _of_rollout(Rollout.read(self._plans.layout(pipeline).rollout))
        except SlipwayError:
            return


def _of_plan(plan: TrafficPlan) -> Iterator[Point]:
    yield "slipway_plan_generation", [plan.pipeline], plan.generation
    for arm in plan.arms:
        labels = [plan.pipeline, arm.name, str(arm.version)]
        yield "slipway_arm_weight_percent", labels, arm.weight_percent


def _of_rollout(rollout: Rollout) -> Iterator[Point]:
    trial = [rollout.pipeline, str(rollout.version)]
    yield "slipway_rollout_state", [*trial, rollout.state], 1
    yield "slipway_rollout_weight_percent", trial, rollout.canary.weight_percent
    yield "slipway_rollout_look_timestamp_seconds", trial, rollout.looked_at.timestamp()
    if rollout.is_over:
        return
    left = max(0.0, rollout.timeout_seconds - rollout.spent_seconds)
    yield "slipway_rollout_seconds_left", trial, left
    for name in ("seconds_to_decision", "seconds_to_end"):
        if (seconds := getattr(rollout, name)) is not None:
            yield f"slipway_rollout_{name}", trial, seconds
    for test in rollout.tests:
        sides = {
            "against": (test.against, test.fails_at),
            "for": (test.in_favour, test.passes_at),
        }
        for side, (evidence, bound) in sides.items():
            if evidence is not None and bound is not None:
                yield "slipway_rollout_evidence", [*trial, test.name, side], evidence
                yield "slipway_rollout_bound", [*trial, test.name, side], bound
