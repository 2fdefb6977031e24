"""A verdict's figures and pictures in MLflow, at their checkpoint's step, each once."""

from collections.abc import Mapping

from components.runs.tracking import Tracker
from contract.records.evaluation import Metric, Verdict
from contract.schema.data import HeadConfig

_MARK = "lag_seconds"  # the last of a verdict's figures: where it is, all are


class Figures:
    """Logs verdicts, but none that an earlier attempt has logged.

    A figure carries the verdict's own time. MLflow's database keeps one of equal ones, so that a
    verdict that was logged twice (by an attempt that was killed before MLflow had answered, and by
    the next) is there once.
    """

    def __init__(self, tracker: Tracker, heads: Mapping[str, HeadConfig]) -> None:
        self._tracker = tracker
        self._heads = heads
        self._drawn = {key: set(tracker.image_steps(key)) for key in heads}
        self.logged = tracker.logged_steps(_MARK)

    def log(self, verdict: Verdict) -> None:
        """Queue the verdict's figures."""
        self._tracker.log_metrics(flat(verdict), step=verdict.step, logged_at=verdict.judged_at)

    def draw(self, verdict: Verdict) -> None:
        """Draw and upload each head's curves, unless they are in MLflow already."""
        if not self._tracker.is_on:
            return
        from components.quality.pictures import draw  # imports matplotlib

        for head, curves in verdict.curves.items():
            if head in self._drawn and verdict.step not in self._drawn[head]:
                self._drawn[head].add(verdict.step)
                title = f"{head}, checkpoint {verdict.step}, {verdict.examples:,} examples"
                figure = draw(self._heads[head], curves, title)
                self._tracker.log_image(figure, head, verdict.step)


def flat(verdict: Verdict) -> dict[str, float]:
    """Name each figure `head/metric`, its bounds `..._low` and `..._high`, slices in front."""
    figures = _of_heads("", verdict.metrics)
    for name, metrics in verdict.slices.items():
        figures |= _of_heads(f"{name}/", metrics)
    return figures | {"judge_seconds": verdict.judge_seconds, _MARK: verdict.lag_seconds}


def _of_heads(prefix: str, metrics: Mapping[str, Mapping[str, Metric]]) -> dict[str, float]:
    figures = {}
    for head, by_name in metrics.items():
        for name, metric in by_name.items():
            figures[f"{prefix}{head}/{name}"] = metric.value
            figures[f"{prefix}{head}/{name}_low"] = metric.low
            figures[f"{prefix}{head}/{name}_high"] = metric.high
    return figures
