"""Reading the evaluator's verdicts, and what they say: the best checkpoint, and when to stop."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from components.quality.metrics import is_lower_better
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.records.evaluation import Verdict
from contract.schema.pipeline import PipelineConfig

_LOOK_SECONDS = 1.0

log = logging.getLogger("slipway")


def read_verdicts(run: RunLayout) -> list[Verdict]:
    """Return all verdicts of a run, steps rising; an unreadable one is skipped with a warning."""
    return Verdicts(run).read()


class Verdicts:
    """A run's verdicts; each file is read once, because it never changes."""

    def __init__(self, run: RunLayout) -> None:
        self._folder = run.verdict(0).parent
        self._known: dict[str, Verdict | None] = {}

    def read(self) -> list[Verdict]:
        """Return the verdicts that there are now, steps rising."""
        for path in sorted(self._folder.glob("[0-9]*.json")):
            if path.name not in self._known:
                self._known[path.name] = _read(path)
        return [v for _, v in sorted(self._known.items()) if v is not None]


def best_step(config: PipelineConfig, verdicts: Sequence[Verdict]) -> int | None:
    """Return the step with the best `bless.metric` on the eval split, the earlier of equals.

    Verdicts in which the metric is undefined do not count; None if none are left.
    """
    values = _values(config, config.bless.metric, verdicts)
    return max(values, key=lambda step: (values[step], -step), default=None)


class EarlyStop:
    """Tells the trainer, between two steps, that its verdicts have ceased to get better."""

    def __init__(
        self,
        config: PipelineConfig,
        run: RunLayout,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._run = run
        self._verdicts = Verdicts(run)
        self._clock = clock
        self._look_at = clock()
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why to stop now, or `""`; cheap: storage is looked at once a second at most."""
        if self._config.evaluate.early_stop.patience is None or self._clock() < self._look_at:
            return self._reason
        self._look_at = self._clock() + _LOOK_SECONDS
        verdicts = self._verdicts.read()
        published = (int(p.parent.name) for p in self._run.checkpoints.glob("[0-9]*/manifest.json"))
        judged = {verdict.step for verdict in verdicts}
        first_open = min((step for step in published if step not in judged), default=None)
        self._reason = stop_reason(self._config, verdicts, first_open)
        return self._reason


def stop_reason(
    config: PipelineConfig, verdicts: Sequence[Verdict], first_open: int | None = None
) -> str:
    """Say why training should stop by `evaluate.early_stop`, or return `""`.

    Only verdicts of steps before `first_open`, the first checkpoint that still waits for its own,
    count: with several evaluators they come in any order, and the answer must not depend on it. A
    verdict in which the metric is undefined (or not finite) is not an improvement.
    """
    settings = config.evaluate.early_stop
    if settings.patience is None:
        return ""
    name = settings.metric or config.bless.metric
    values = _values(config, name, verdicts)
    best, best_step, waited = -float("inf"), 0, 0
    for verdict in verdicts:
        if first_open is not None and verdict.step > first_open:
            break
        value = values.get(verdict.step)
        if value is not None and value > best + settings.min_improvement:
            best, best_step, waited = value, verdict.step, 0
        else:
            waited += 1
    if waited < settings.patience:
        return ""
    shown = -best if is_lower_better(name) else best
    return (
        f"{waited} checkpoints in a row were not better than that of step {best_step} "
        f"({name} {shown:.4g}; evaluate.early_stop.patience is {settings.patience})"
    )


def _values(config: PipelineConfig, name: str, verdicts: Sequence[Verdict]) -> dict[int, float]:
    """Return a metric of the blessing head by step, turned so that more is better."""
    sign, head = -1.0 if is_lower_better(name) else 1.0, config.blessing_head
    return {
        verdict.step: sign * verdict.metrics[head][name].value
        for verdict in verdicts
        if name in verdict.metrics.get(head, {})
    }


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict.read(path)
    except SlipwayError as error:
        log.warning("verdict skipped: %s", error)
        return None
