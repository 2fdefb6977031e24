"""Reading the evaluator's verdicts, and what they say of the best checkpoint."""

import logging
from collections.abc import Sequence

from components.metrics import is_lower_better
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.records import Verdict
from contract.schema import PipelineConfig

log = logging.getLogger("slipway")


def read_verdicts(run: RunLayout) -> list[Verdict]:
    """Return all verdicts of a run, steps rising; an unreadable one is skipped with a warning."""
    verdicts = []
    for path in sorted(run.verdict(0).parent.glob("[0-9]*.json")):
        try:
            verdicts.append(Verdict.read(path))
        except SlipwayError as error:
            log.warning("verdict skipped: %s", error)
    return verdicts


def best_step(config: PipelineConfig, verdicts: Sequence[Verdict]) -> int | None:
    """Return the step with the best `bless.metric` on the eval part, the earlier of equals.

    Verdicts in which the metric is undefined do not count; None if none are left.
    """
    head, name = config.blessing_head, config.bless.metric
    values = {
        verdict.step: verdict.metrics[head][name].value
        for verdict in verdicts
        if name in verdict.metrics.get(head, {})
    }
    sign = -1.0 if is_lower_better(name) else 1.0
    return max(values, key=lambda step: (sign * values[step], -step), default=None)
