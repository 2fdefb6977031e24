"""A verdict's figures in MLflow, at their checkpoint's step, each once."""

from collections.abc import Mapping

from components.tracking import Tracker
from contract.records import Metric, Verdict

_MARK = "lag_seconds"  # the last of a verdict's figures: where it is, all are


class Figures:
    """Logs verdicts, but none that an earlier attempt has logged."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._logged = set(tracker.logged_steps(_MARK))

    def log(self, verdict: Verdict) -> None:
        """Queue the verdict's figures, unless they are in MLflow already."""
        if verdict.step in self._logged:
            return
        self._logged.add(verdict.step)
        self._tracker.log_metrics(_flat(verdict), step=verdict.step)


def _flat(verdict: Verdict) -> dict[str, float]:
    """Name each figure `head/metric`, its bounds `..._low` and `..._high`, slices in front."""
    figures = _of_heads("", verdict.metrics)
    for name, metrics in verdict.slices.items():
        figures |= _of_heads(f"{name}/", metrics)
    return figures | {_MARK: verdict.lag_seconds}


def _of_heads(prefix: str, metrics: Mapping[str, Mapping[str, Metric]]) -> dict[str, float]:
    figures = {}
    for head, by_name in metrics.items():
        for name, metric in by_name.items():
            figures[f"{prefix}{head}/{name}"] = metric.value
            figures[f"{prefix}{head}/{name}_low"] = metric.low
            figures[f"{prefix}{head}/{name}_high"] = metric.high
    return figures
