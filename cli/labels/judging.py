"""What people's labels say of the version in service, by the judge's test of late labels."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cli.runs.standing import stored_plan
from contract.errors import UserError

if TYPE_CHECKING:
    from components.deploy.labelled.answers import Label, Labels
    from components.deploy.labelled.answers import Place as RowPlace
    from components.labels.consensus.settling import Settlement
    from contract.layout import PipelineLayout
    from contract.records.quality import LabelVerdict
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.records import Answered, Topic, Truth


def verdict_of_people(
    layout: "PipelineLayout",
    config: "PipelineConfig",
    topic: "Topic",
    labels: "Labels",
    now: datetime,
) -> "tuple[LabelVerdict | None, str]":
    """Judge the version in service beside the champion before it; return the verdict, or why not.

    Without an earlier champion, during a trial and without labels there is neither.
    """
    from components.deploy.labelled.verdict import verdict_of

    plan = stored_plan(layout)
    if plan.trial is not None or len(plan.lineage) < 2 or not labels.found:
        return None, ""
    try:
        return verdict_of(layout, config, plan, labels, [topic.head], now), ""
    except UserError as error:
        return None, f"the versions are not compared: {error}"


def audit_labels(
    config: "PipelineConfig", head: str, said: "Sequence[Answered]", found: "Settlement"
) -> "Labels":
    """Return the labels of rows as an audit of all requests would have them.

    Each row weighs as much as its chance to be an audit row, given that it was chosen at all: its
    audit probability over its probability, at most 1. The audit takes rows evenly, and this is the
    mean of what it could have taken, so a weighted figure has the same mean as the audit's, and
    rows that were chosen by worth tell something, too (Rao 1945, Blackwell 1947). The weights
    follow from the choice alone: no later harvest changes them, so looking often is sound. Rows
    that no audit could take, as gold ones, say nothing of all requests and are left out.

    Only rows that have all their answers, or a reviewer's decision, count: those of the newest
    version have the fewest answers, so its labels would be wrong more often.
    """
    from components.deploy.labelled.answers import Label, Labels

    weights = {
        (one.request_id, str(one.row)): one.audit_probability / one.probability
        for one in said
        if one.audit_probability > 0 and (one.is_closed or one.decided is not None)
    }
    classes = config.heads[head].classes
    return Labels(
        1.0,
        {
            (one.place[0], int(one.place[1])): Label(
                {head: classes.index(one.label)}, 1.0 / weights[one.place]
            )
            for one in found.labels
            if one.place in weights
        },
    )


def true_labels(
    config: "PipelineConfig", head: str, truths: "Iterable[Truth]"
) -> "dict[RowPlace, Label]":
    """Return what has turned out to be true of rows as labels that count as those of the audit.

    Programs tell of rows whatever the model thinks of them: nobody chose these rows.
    """
    from components.deploy.labelled.answers import Label

    classes = config.heads[head].classes
    return {
        (one.request_id, one.row): Label({head: classes.index(one.label)}, 1.0)
        for one in truths
        if one.label in classes
    }
