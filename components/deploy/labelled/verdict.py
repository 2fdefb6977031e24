"""The verdict of late labels on the version in service, and the roll-back that may follow."""

import math
from datetime import datetime
from pathlib import Path

from components.deploy.judging.accuracy import interval, log_evidence_worse
from components.deploy.labelled.answers import (
    Labelled,
    Labels,
    heads_with_classes,
    labelled,
    read_labels,
)
from components.deploy.promote.manual import Move, rollback
from contract.errors import NotFoundError, UserError
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.records.quality import LabelledVersion, LabelTest, LabelVerdict
from contract.records.traffic import TrafficPlan
from contract.schema.pipeline import PipelineConfig

_MOST_LOG_EVIDENCE = math.log(1e12)  # what is shown stays readable


def judge_labels(
    layout: PipelineLayout, config: PipelineConfig, plan: TrafficPlan, path: Path, now: datetime
) -> LabelVerdict:
    """Judge the version in service by a file with all labels that are known so far.

    Raises:
        UserError: If there is no earlier champion, a trial is in progress, no head has classes, or
            one of the versions has others.
        DataError: If the file is not one of labels.
    """
    _versions(plan)  # before a long file is read
    return verdict_of(
        layout, config, plan, read_labels(path, config), heads_with_classes(config), now
    )


def verdict_of(  # noqa: PLR0913 (what is judged, by what, and when)
    layout: PipelineLayout,
    config: PipelineConfig,
    plan: TrafficPlan,
    labels: Labels,
    heads: list[str],
    now: datetime,
) -> LabelVerdict:
    """Judge the version in service by all labels of some heads that are known so far.

    Raises:
        UserError: As `judge_labels`.
    """
    version, before = _versions(plan)
    for number in (version, before):
        _check_classes(layout, number, config, heads)
    of_version, rows = labelled(layout.predictions(version), labels, heads)
    of_before, rows_before = labelled(layout.predictions(before), labels, heads)
    error = config.deploy.alpha / len(heads)
    margin = config.deploy.label_margin_ratio
    tests = tuple(
        _test(head, (version, of_version[head]), (before, of_before[head]), margin, error)
        for head in heads
    )
    worst = max(tests, key=lambda test: test.evidence)
    is_worse = worst.evidence >= worst.bound
    return LabelVerdict(
        pipeline=layout.pipeline,
        decision="rollback" if is_worse else "continue",
        reason=_in_words(worst, margin, is_worse),
        decided_by=worst.head if is_worse else "",
        margin_ratio=margin,
        tests=tests,
        labels=rows + rows_before,
        unknown=len(labels.found) - rows - rows_before,
        bad=labels.bad,
        judged_at=now,
    )


def rollback_by_labels(
    plan: TrafficPlan, layout: PipelineLayout, verdict: LabelVerdict, author: str
) -> Move:
    """Decide to go back to the champion before, which the labels show to be better.

    Raises:
        UserError: If the verdict is another, or is about other versions.
    """
    version, before = _versions(plan)
    judged = {(test.version.version, test.before.version) for test in verdict.tests}
    if judged != {(version, before)}:
        raise UserError(
            f"{layout.pipeline}: version {version} is in service by now, and version {before} was "
            "before it; judge the labels again"
        )
    if verdict.decision != "rollback":
        raise UserError(f"{layout.pipeline}: the labels call for no roll-back: {verdict.reason}")
    move = rollback(plan, layout, before, author)
    reason = f"rolled back by labels: {verdict.reason}"
    marks = tuple(mark.model_copy(update={"reason": reason}) for mark in move.proposal.bad)
    proposal = move.proposal.model_copy(update={"reason": reason, "bad": marks})
    return Move(proposal, f"{move.words}; {verdict.reason}", move.warning)


def _versions(plan: TrafficPlan) -> tuple[int, int]:
    """Return the version in service and the champion before it.

    Raises:
        UserError: If there are fewer than two, or a trial is in progress.
    """
    if plan.trial is not None:
        raise UserError(
            f"{plan.pipeline}: version {plan.trial[0]} is on trial; labels are judged when the "
            f"trial is over (slipway rollout {plan.pipeline})"
        )
    if len(plan.lineage) < 2:
        served = f"version {plan.champion}" if plan.champion else "no version"
        raise UserError(
            f"{plan.pipeline}: {served} is in service and has no earlier champion to compare with"
        )
    before, version = plan.lineage[-2:]
    return version, before


def _check_classes(
    layout: PipelineLayout, version: int, config: PipelineConfig, heads: list[str]
) -> None:
    """Refuse a version of other classes: the log has their indices, labels have their names.

    Raises:
        UserError: If a head has others, or another order of them.
    """
    try:
        packaged = PackageManifest.read(layout.package_manifest(version)).heads
    except NotFoundError:  # it is not kept any more; its log is
        return
    for head in heads:
        found = packaged[head].classes if head in packaged else ()
        if found != config.heads[head].classes:
            raise UserError(
                f"{layout.pipeline}: heads.{head}.classes: version {version} has "
                f"{', '.join(found) or 'none'}, found {', '.join(config.heads[head].classes)} in "
                "the config; judge the labels with the config that the version was made with"
            )


def _test(
    head: str,
    version: tuple[int, Labelled],
    before: tuple[int, Labelled],
    margin: float,
    error: float,
) -> LabelTest:
    evidence = log_evidence_worse(version[1].figures, before[1].figures, margin)
    return LabelTest(
        head=head,
        version=_of(*version, error),
        before=_of(*before, error),
        evidence=float(f"{math.exp(min(evidence, _MOST_LOG_EVIDENCE)):.4g}"),
        bound=round(1.0 / error, 1),
    )


def _of(version: int, found: Labelled, error: float) -> LabelledVersion:
    low, high = interval(found.figures, error)
    return LabelledVersion(
        version=version,
        requests=len(found.figures.right),
        accuracy=round(found.figures.accuracy, 6),
        low=low,
        high=high,
        first=found.times[0] if found.times else None,
        last=found.times[-1] if found.times else None,
    )


def _in_words(test: LabelTest, margin: float, is_worse: bool) -> str:
    told = (
        f"{test.head}: version {test.version.version} is right in {_accuracy(test.version)}, "
        f"version {test.before.version} before it in {_accuracy(test.before)}"
    )
    evidence = f"evidence {test.evidence:,.4g} that it is worse by more than {margin:.1%}"
    if is_worse:
        return f"{told}; {evidence}, from {test.bound:,.0f} on it is rolled back"
    return f"{told}; {evidence}, a roll-back needs {test.bound:,.0f}"


def _accuracy(found: LabelledVersion) -> str:
    if not found.requests:
        return "no labelled request"
    return (
        f"{found.accuracy:.1%} of {found.requests:,} labelled requests "
        f"(surely {found.low:.1%} to {found.high:.1%})"
    )
