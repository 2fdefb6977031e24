"""A turn of the label loop: ask about what is new in the log, learn what people have agreed on.

Both may be killed at any moment and run again: no row is chosen twice, and no label is stored
twice or lost.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cli.labels.accuracy import champion_of, online_accuracy
from cli.labels.agreement import Agreement, agreement
from cli.labels.harvesting import (
    asked_before,
    check_learnable,
    kept_inputs,
    topic_of,
    with_inputs,
)
from cli.labels.judging import audit_labels, true_labels, verdict_of_people
from cli.labels.learning import as_csv, settled_with_models, to_learn, weights_of
from contract.errors import NotFoundError, UserError
from contract.records.label_loop import HarvestRecord, LabelLoopRecord, labels_to_run
from contract.records.quality import LabelledVersion
from contract.schema.labels import LabelsConfig
from contract.storage import exclusive_lock

if TYPE_CHECKING:
    from components.labels.choosing.questions import Wish
    from contract.layout import PipelineLayout
    from contract.records.quality import LabelVerdict
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.database import Database

# Servers write rows two seconds after they have answered them; of younger ones some may be missing.
_SETTLED = timedelta(seconds=10)
_SEEDS = 2**31


@dataclass(frozen=True)
class Stored:
    """How many labels are sure enough to learn from, and what became of those that are new."""

    labels: int = 0
    news: int = 0
    delta: str = ""


def labels_config(config: "PipelineConfig") -> LabelsConfig:
    """Return how the loop turns.

    Raises:
        UserError: If the pipeline has no loop.
    """
    if config.labels is None:
        raise UserError(
            f"{config.name}: the pipeline has no label loop; add a section 'labels' to "
            "pipeline.yaml ('labels: {}' has defaults for all its keys)"
        )
    return config.labels


@dataclass(frozen=True)
class Loop:
    """The loop of one pipeline, whose questions and answers are in a database."""

    layout: "PipelineLayout"
    config: "PipelineConfig"
    store: "Database"

    def harvest(self, now: datetime) -> HarvestRecord:
        """Make questions of the part of the log that no harvest has looked at.

        A part of which no row can be asked about is done: the record says why, and the next
        harvest looks at the next part.

        Raises:
            UserError: If the pipeline has no loop, or if people's labels cannot teach it.
            DataError: If a file of the log is broken; the next harvest tries this part again.
        """
        from serving.labels.store.exchange import batches_asked

        wish = _wish(self.config)
        if wish.budget.audit_ratio < 1:
            check_learnable(self.config, wish.head)
        with exclusive_lock(self.layout.label_loop_lock("choice")):
            due = _due(self.layout, now, batches_asked(self.store, self.config.name, wish.head))
            due.write(self.layout.label_harvest)
            questions, problem = self._ask(wish, due)
            found = {"questions": questions, "problem": problem or self._problem_of(due, now)}
            done = due.model_copy(update={"is_done": True, **found})
            done.write(self.layout.label_harvest)
        return done

    def learn(self, now: datetime) -> LabelLoopRecord:
        """Store what people have agreed on if it is enough; say how accurate versions are.

        Raises:
            UserError: If the pipeline has no loop, or if people's labels cannot teach it.
        """
        wish, champion = labels_config(self.config), champion_of(self.layout)
        accuracy, stored, is_below, answers = list[LabelledVersion](), Stored(), False, 0
        slices = tuple[str, ...]()
        if (agreed := self._agreement()) is not None:
            answers = sum(one.label is not None for one in agreed.said)
            accuracy = online_accuracy(self.layout, self.config, agreed)
            slices = _slices_below(accuracy, champion, wish)
            is_below = bool(slices) or _is_below(accuracy, champion, wish)
            stored = self._store(agreed, labels_to_run(wish.min_labels, is_below), now)
        verdict, told = self._verdict(agreed, now)
        record = LabelLoopRecord(
            pipeline=self.layout.pipeline,
            answers=answers,
            labels=stored.labels,
            waiting=0 if stored.delta else stored.news,
            added=stored.news if stored.delta else 0,
            delta=stored.delta,
            accuracy=tuple(accuracy),
            champion=champion,
            is_below=is_below,
            below_slices=slices,
            verdict=told,
            is_worse=verdict is not None and verdict.decision == "rollback",
            turned_at=now,
        )
        record.write(self.layout.label_loop)
        return record

    def _verdict(
        self, agreed: Agreement | None, now: datetime
    ) -> "tuple[LabelVerdict | None, str]":
        """Judge the version in service, and keep the verdict; return it in words, too."""
        from components.deploy.labelled.answers import Labels
        from components.labels.choosing.questions import head_to_ask
        from serving.labels.store.questions import topic_id
        from serving.labels.store.truths import told as told_truths

        head = head_to_ask(self.config, labels_config(self.config).head)
        try:
            number, topic = topic_id(self.store, self.config.name, head)
        except NotFoundError:
            return None, ""
        labels = Labels(1.0)
        if agreed is not None:
            labels = audit_labels(self.config, head, agreed.said, agreed.found)
        labels.found |= true_labels(self.config, head, told_truths(self.store, number))
        verdict, told = verdict_of_people(self.layout, self.config, topic, labels, now)
        if verdict is None:
            return None, told
        verdict.write(self.layout.label_verdict)
        if verdict.decision == "rollback" and not labels_config(self.config).rolls_back:
            hint = f"'slipway rollback {self.config.name}' does it, as labels.rolls_back is false"
            return verdict, f"{verdict.reason}; {hint}"
        return verdict, verdict.reason

    def _problem_of(self, due: HarvestRecord, now: datetime) -> str:
        """Return why nothing is asked until a clock has caught up; empty: nothing is wrong."""
        if due.since is None or due.since <= now:
            return ""
        return (
            f"the last harvest looked at rows until {due.since:%Y-%m-%d %H:%M:%S} UTC, which is in "
            f"the future: a clock was wrong; correct 'until' in {self.layout.label_harvest}"
        )

    def _ask(self, wish: "Wish", due: HarvestRecord) -> tuple[int, str]:
        """Choose rows and make questions of them; return how many, or why none of those logged."""
        import numpy as np

        from components.labels.choosing.candidates import (
            NothingLoggedError,
            NothingToAskError,
            Period,
        )
        from components.labels.choosing.questions import choose_questions
        from serving.labels.store.questions import add_questions

        period = Period(due.since, due.until, is_exact=True)
        asked = asked_before(self.store, self.config, wish.head, due.batches)
        wish = replace(wish, period=period, asked=asked)
        random = np.random.default_rng(due.seed)
        try:
            chosen = choose_questions(self.layout, self.config, wish, random)
        except NothingLoggedError:
            return 0, ""
        except NothingToAskError as error:
            return 0, str(error)
        found, topic = with_inputs(self.layout, chosen), topic_of(self.config, wish.head)
        people = labels_config(self.config).people
        return sum(add_questions(self.store, topic, found, people)), ""

    def _agreement(self) -> Agreement | None:
        """Return what people say; None if nobody was asked, or has given a label."""
        from components.labels.choosing.questions import head_to_ask
        from components.labels.consensus.settling import NoAnswersError

        head = head_to_ask(self.config, labels_config(self.config).head)
        try:
            return agreement(self.store, self.config, head)
        except (NotFoundError, NoAnswersError):
            return None

    def _store(self, agreed: Agreement, least: int, now: datetime) -> Stored:
        """Store the labels that are sure enough, if at least so many of them are new."""
        from components.labels.labelled_files import LabelFile
        from components.labels.labels import add_labels
        from serving.labels.store.exchange import stored_questions

        wish, head = labels_config(self.config), agreed.topic.head
        weights = weights_of(stored_questions(self.store, agreed.number))
        asked = stored_questions(self.store, agreed.number)
        found = settled_with_models(agreed.said, asked, agreed.topic.classes)
        learned = to_learn(found, weights, wish.min_confidence, wish.min_answers)
        if not learned:
            return Stored()
        check_learnable(self.config, head)
        places = {one.place for one in learned}
        kept = kept_inputs(stored_questions(self.store, agreed.number), places)
        author = f"consensus of {len(agreed.found.people):,} people"
        with TemporaryDirectory() as folder:
            path = Path(folder) / "consensus.csv"
            text = as_csv(learned, self.config.label_column(head), self.config.weight)
            path.write_text(text, encoding="utf-8")
            file = LabelFile(path, kept, least, is_consensus=True)
            record = add_labels(self.layout, self.config, file, author, now)
        return Stored(len(learned), record.added + record.corrected, record.delta)


def _due(layout: "PipelineLayout", now: datetime, batches: int) -> HarvestRecord:
    """Return the harvest to make: the last one again, if it was not finished, or the next one.

    `batches` are there now; a repeated harvest looks only at those that were there at first.
    """
    seed = secrets.randbelow(_SEEDS)
    try:
        last = HarvestRecord.read(layout.label_harvest)
    except NotFoundError:
        return HarvestRecord(until=now - _SETTLED, seed=seed, batches=batches)
    if not last.is_done:
        return last
    until = max(last.until, now - _SETTLED)
    return HarvestRecord(since=last.until, until=until, seed=seed, batches=batches)


def _wish(config: "PipelineConfig") -> "Wish":
    from components.labels.choosing.choice import Budget
    from components.labels.choosing.questions import Wish, head_to_ask

    wish = labels_config(config)
    budget = Budget(wish.budget, wish.per_class, wish.audit_ratio)
    return Wish(head_to_ask(config, wish.head), wish.by, budget)


def _is_below(accuracy: Sequence[LabelledVersion], champion: int, wish: LabelsConfig) -> bool:
    least = wish.min_accuracy
    return least is not None and any(
        one.version == champion and one.high < least for one in accuracy
    )


def _slices_below(
    accuracy: Sequence[LabelledVersion], champion: int, wish: LabelsConfig
) -> tuple[str, ...]:
    """Return the slices of the version in service that are below their least accuracy."""
    slices = (one.slices.items() for one in accuracy if one.version == champion)
    return tuple(
        name for name, found in chain(*slices) if found.high < wish.least_accuracy_of(name)
    )
