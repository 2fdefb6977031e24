"""May this model go on to production? Chosen on the eval part, judged on the test part."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.bless.answers import TestPart, ask
from components.bless.champion import Champion
from components.bless.comparison import Comparison, compare, compare_own
from components.bless.verdict import Finding, against_champion, against_thresholds
from components.metrics import (
    Answers,
    Custom,
    check_metrics,
    measure,
    measure_own,
)
from components.squashed_twice import are_squashed_twice, in_words
from components.user_code import user_code
from contract.records.evaluation import Metric
from contract.schema.pipeline import PipelineConfig

Metrics = dict[str, dict[str, Metric]]  # by head, then metric


@dataclass(frozen=True)
class Judgement:
    """The decision, its reasons, and the figures behind it. "Not good enough" is a result."""

    is_blessed: bool
    reasons: tuple[str, ...]
    metrics: Metrics
    champion_metrics: Metrics
    answers: Mapping[str, Answers]
    comparison: Comparison | None = None

    @property
    def detectable_difference(self) -> float | None:
        """The smallest difference that would have been seen; None if nothing was compared."""
        if self.comparison is None or not math.isfinite(self.comparison.detectable):
            return None
        return self.comparison.detectable


def bless(
    candidate: Path, champion: Champion, test: TestPart, config: PipelineConfig, own: Custom
) -> Judgement:
    """Judge a SavedModel on the test part, by thresholds and against what is serving.

    The champion answers the same rows in the same process: figures measured earlier, perhaps on
    other rows, play no part. A champion that cannot be compared with (other inputs or heads) leaves
    the thresholds to decide, and the reasons say so.

    Raises:
        ConfigError: If `bless.metric` or a threshold names a metric that there is not.
        DataError: If the candidate's two signatures do not agree.
    """
    check_metrics(config, own)
    ours = ask(candidate, test)
    metrics = _measure(ours, config, own)
    findings = against_thresholds(metrics[config.blessing_head], config.bless)
    findings += [Finding(True, warning) for warning in warnings_of(ours, config)]
    champion_metrics: Metrics = {}
    comparison = None
    if champion.version is None or champion.model is None:
        findings.append(Finding(True, champion.obstacle))
    else:
        theirs = ask(champion.model, test)
        champion_metrics = _measure(theirs, config, own)
        head = config.blessing_head
        comparison = _compare((ours[head], theirs[head]), config, own)
        rows = len(ours[head].labels)
        findings.append(against_champion(comparison, champion.version, rows, config.bless))
    return Judgement(
        is_blessed=all(finding.has_passed for finding in findings),
        reasons=tuple(finding.reason for finding in findings),
        metrics=metrics,
        champion_metrics=champion_metrics,
        answers=ours,
        comparison=comparison,
    )


def warnings_of(answers: Mapping[str, Answers], config: PipelineConfig) -> list[str]:
    """Return what is odd about a candidate's answers, though no threshold says no."""
    tasks = {head: config.heads[head].task for head in answers}
    return [
        in_words(head, tasks[head])
        for head, answer in answers.items()
        if are_squashed_twice(tasks[head], answer.scores)
    ]


def _measure(answers: Mapping[str, Answers], config: PipelineConfig, own: Custom) -> Metrics:
    confidence, measured = config.bless.confidence, {}
    for head, answer in answers.items():
        measured[head] = measure(config.heads[head].task, answer, confidence)
        if functions := own.get(head):
            with user_code(f"model.py: metrics of head '{head}'"):
                measured[head] |= measure_own(functions, answer, confidence)
    return measured


def _compare(pair: tuple[Answers, Answers], config: PipelineConfig, own: Custom) -> Comparison:
    head, settings = config.blessing_head, config.bless
    if function := own.get(head, {}).get(settings.metric):
        with user_code(f"model.py: metric '{settings.metric}'"):
            return compare_own(settings.metric, function, pair, settings.confidence)
    return compare(config.heads[head].task, settings.metric, pair, settings.confidence)
