"""What a running step has done so far, read from its files on storage."""

import math
from collections.abc import Sequence

from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.record import Result
from contract.records.traffic import TrafficPlan

MOST_CHARACTERS = 200
_WHOLE = 1000


def note_of(run: RunLayout, step: str) -> str | None:
    """Return a running step's progress in words; None if it is unknown."""
    notes = {"train": _training, "evaluate": _evaluation, "canary": _trial, "promote": _trial}
    return notes[step](run) if step in notes else None


def summary_of(run: RunLayout, step: str) -> str | None:
    """Return what a step's result says, in one line; None where it has none."""
    from cli.runs.outcome import read_result

    if (result := read_result(run, step)) is None:
        return None
    figures = [f"{name} {number(value)}" for name, value in result.metrics.items()]
    return shortened([*_comparison(run, result), *result.reasons, *figures])


def trial_words(plan: TrafficPlan) -> str | None:
    """Return which version is on trial and what it needs; None without a trial."""
    hint = f"judged on requests; 'slipway replay {plan.pipeline} --rate 200' sends some"
    if plan.canary is not None:
        return f"canary version {plan.canary.version} at {plan.canary.weight_percent} %: {hint}"
    return f"shadow version {plan.shadow.version}: {hint}" if plan.shadow is not None else None


def number(value: float) -> str:
    """Return a number as people read it: whole from a thousand on, else four digits."""
    if abs(value) >= _WHOLE or (value == int(value) if math.isfinite(value) else False):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shortened(parts: Sequence[str]) -> str:
    """Join as many parts as fit, whole ones; a first part that is too long alone is cut."""
    text = parts[0] if parts else ""
    if len(text) > MOST_CHARACTERS:
        return f"{text[:MOST_CHARACTERS].rsplit(' ', 1)[0]} …"
    for part in parts[1:]:
        if len(text) + len(part) > MOST_CHARACTERS:
            return f"{text}; …"
        text += f"; {part}"
    return text


def _training(run: RunLayout) -> str | None:
    steps = [int(m.parent.name) for m in run.checkpoints.glob("*/manifest.json")]
    return f"{len(steps)} checkpoints, the last at step {max(steps)}" if steps else None


def _evaluation(run: RunLayout) -> str | None:
    verdicts = len(list(run.verdict(0).parent.glob("*.json")))
    return f"{verdicts} checkpoints judged" if verdicts else None


def _trial(run: RunLayout) -> str | None:
    try:
        return trial_words(TrafficPlan.read(run.of_pipeline.traffic_plan))
    except SlipwayError:
        return None


def _comparison(run: RunLayout, result: Result) -> list[str]:
    """Return the deciding metric beside that of the version in service, as one line or none.

    The reasons say it, too, after the thresholds, and in too many words for one line.
    """
    if result.step != "bless":
        return []
    from contract.loader import load_frozen

    record = result.detail_as(BlessRecord)
    if not record.champion_metrics:
        return []
    try:
        config = load_frozen(run)
    except SlipwayError:
        return []
    head, metric = config.blessing_head, config.bless.metric
    ours = record.metrics[head].get(metric)
    theirs = record.champion_metrics[head].get(metric)
    if ours is None or theirs is None:
        return []
    champion = f"version {record.champion_version} has {number(theirs.value)}"
    return [f"{metric} {number(ours.value)}, {champion}"]
