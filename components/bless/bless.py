"""Whether a model may be deployed: chosen on the eval split, judged on the test split."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.bless.answers import TestSplit, ask, ask_earlier
from components.bless.champion import Champion
from components.bless.comparison import Comparison, compare, compare_own
from components.bless.slices import on_slices, rows_by_slice
from components.bless.verdict import (
    Asked,
    Finding,
    absent_classes,
    against_champion,
    against_record,
    against_thresholds,
    on_other_head,
    too_few_of_a_class,
)
from components.models.user_code import user_code
from components.quality.metrics import (
    Answers,
    Custom,
    check_metrics,
    measure,
    measure_own,
)
from components.quality.squashed_twice import are_squashed_twice, in_words
from contract.records.evaluation import Metric
from contract.schema.pipeline import PipelineConfig

Metrics = dict[str, dict[str, Metric]]  # by head, then metric


@dataclass(frozen=True)
class Blessing:
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
    candidate: Path, champion: Champion, test: TestSplit, config: PipelineConfig, own: Custom
) -> Blessing:
    """Judge a SavedModel on the test split, by thresholds and against what is serving.

    The champion answers the same rows in the same process, and so does the best champion before it
    that is kept: small losses within the margin do not add up. A champion with other inputs cannot
    answer them, nor one whose files are gone or that fails on a row; there the figure measured in
    its own run counts. One with other heads leaves the thresholds to decide, as the reasons say.

    Raises:
        ConfigError: If `bless.metric` or a threshold names a metric that there is not.
        DataError: If the candidate's two signatures do not agree.
    """
    check_metrics(config, own)
    ours = ask(candidate, test)
    metrics = _measure(ours, config, own)
    head = config.blessing_head
    findings = against_thresholds(metrics[head], config.bless)
    findings += [Finding(True, warning) for warning in warnings_of(ours, config)]
    champion_metrics: Metrics = {}
    comparison, slices = None, rows_by_slice(test)
    for other in (champion.best, champion):
        if other is None:
            continue
        theirs = _of_earlier(other, test)
        if other.version is None or isinstance(theirs, str):
            recorded = other.recorded.get(config.bless.metric)
            ours_by_it = metrics[head].get(config.bless.metric)
            findings.append(against_record(ours_by_it, recorded, str(theirs), config.bless))
            continue
        if other is champion:
            champion_metrics = _measure(theirs, config, own)
        found, of_blessing_head = _against(other.version, ours, theirs, config, own)
        comparison = of_blessing_head if other is champion else comparison
        if config.bless.metric not in own.get(head, {}):
            findings += on_slices((ours[head], theirs[head]), slices, other.version, config)
        findings += found
    return Blessing(
        is_blessed=all(finding.has_passed for finding in findings),
        reasons=tuple(finding.reason for finding in findings),
        metrics=metrics,
        champion_metrics=champion_metrics,
        answers=ours,
        comparison=comparison,
    )


def _of_earlier(earlier: Champion, test: TestSplit) -> dict[str, Answers] | str:
    """Return the answers of what serves or has served, or why there are none, as a message."""
    if earlier.model is None:
        return earlier.obstacle
    answers = ask_earlier(earlier.model, test)
    if isinstance(answers, str):
        return f"version {earlier.version} cannot be compared with: {answers}"
    return answers


def warnings_of(answers: Mapping[str, Answers], config: PipelineConfig) -> list[str]:
    """Return what is odd about a candidate's answers, though no threshold says no."""
    tasks = {head: config.heads[head].task for head in answers}
    squashed = [
        in_words(head, tasks[head])
        for head, answer in answers.items()
        if are_squashed_twice(tasks[head], answer.scores)
    ]
    absent = [absent_classes(head, a.labels, config.heads[head]) for head, a in answers.items()]
    return squashed + [warning for warning in absent if warning]


def _against(
    version: int,
    ours: Mapping[str, Answers],
    theirs: Mapping[str, Answers],
    config: PipelineConfig,
    own: Custom,
) -> tuple[list[Finding], Comparison | None]:
    """Return what every head says of a version, the blessing head's last, with its comparison."""
    findings, comparison = [], None
    for head in sorted(config.heads, key=lambda name: name == config.blessing_head):
        asked, pair = _asked(head, config), (ours[head], theirs[head])
        classes = config.heads[head].classes
        if few := too_few_of_a_class(pair[0].labels, classes, asked.metric, config.bless):
            findings.append(few)
            comparison = None
            continue
        comparison = _compare(head, asked.metric, pair, config, own)
        if head == config.blessing_head:
            rows = len(pair[0].labels)
            findings.append(against_champion(comparison, version, rows, config.bless))
        else:
            confidence = config.bless.confidence
            findings.append(on_other_head(head, comparison, version, asked, confidence))
    return findings, comparison


def _asked(head: str, config: PipelineConfig) -> Asked:
    if head == config.blessing_head:
        return Asked(config.bless.metric, config.bless.margin)
    metric = "r2" if config.heads[head].task == "regression" else "accuracy"
    return Asked(metric, config.bless.head_margins.get(head, config.bless.margin))


def _measure(answers: Mapping[str, Answers], config: PipelineConfig, own: Custom) -> Metrics:
    confidence, measured = config.bless.confidence, {}
    for head, answer in answers.items():
        measured[head] = measure(config.heads[head].task, answer, confidence)
        if functions := own.get(head):
            with user_code(f"model.py: metrics of head '{head}'"):
                measured[head] |= measure_own(functions, answer, confidence)
    return measured


def _compare(
    head: str, metric: str, pair: tuple[Answers, Answers], config: PipelineConfig, own: Custom
) -> Comparison:
    confidence = config.bless.confidence
    if function := own.get(head, {}).get(metric):
        with user_code(f"model.py: metric '{metric}'"):
            return compare_own(metric, function, pair, confidence)
    return compare(config.heads[head].task, metric, pair, confidence)
