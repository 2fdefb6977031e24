"""Which questions a reviewer is to decide: people contradict each other, or are not sure."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serving.labels.store.answering import answers
from serving.labels.store.database import Database
from serving.labels.store.records import Answered, Topic

LEAST_CONFIDENCE = 0.9  # as 'slipway labels learn' asks for

_LEAST_RIGHT = 0.5  # of the answers of one who is heard, where that is known
_FRESH_SECONDS = 30.0  # for so long new answers make no new conflicts
_SHARE = 0.05  # of the time that goes into looking for them, at most


@dataclass(frozen=True)
class Opinion:
    """What all answers say together.

    `labels` has by question the label and its confidence; `right_ratios` by labeller the estimated
    share of right answers, of those who have given enough.
    """

    labels: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    right_ratios: Mapping[str, float] = field(default_factory=dict)


Judge = Callable[[Sequence[Answered], Sequence[str]], Opinion]


def by_votes(said: Sequence[Answered], _classes: Sequence[str]) -> Opinion:
    """Return the labels that most people have given, and their share of the answers."""
    votes = defaultdict[int, Counter[str]](Counter)
    for one in said:
        if one.label is not None:
            votes[one.question][one.label] += 1
    best = {question: counts.most_common(1)[0] for question, counts in votes.items()}
    return Opinion({q: (label, n / votes[q].total()) for q, (label, n) in best.items()})


@dataclass(frozen=True)
class Queue:
    """Questions to decide, the least sure first."""

    questions: tuple[int, ...] = ()
    opinion: Opinion = Opinion()

    def after(self, question: int, is_done: Callable[[int], bool]) -> int | None:
        """Return the next one behind a question that is not done, from the end the first."""
        at = self.questions.index(question) + 1 if question in self.questions else 0
        for one in (*self.questions[at:], *self.questions[:at]):
            if not is_done(one):
                return one
        return None


class Conflicts:
    """Looks for conflicts in all answers of a topic, now and then."""

    def __init__(self, database: Database, judge: Judge) -> None:
        self._database = database
        self._judge = judge
        self._known: dict[int, tuple[float, Queue]] = {}  # by topic: until when
        self._lock = threading.Lock()  # one look at a time

    def of(self, number: int, topic: Topic) -> Queue:
        """Return a topic's conflicts as of some seconds ago."""
        with self._lock:
            began = time.monotonic()
            until, queue = self._known.get(number, (began, Queue()))
            if began >= until:
                said = [one for one in answers(self._database, number) if one.gold is None]
                queue = conflicts(said, self._judge(said, topic.classes) if said else Opinion())
                took = time.monotonic() - began
                until = time.monotonic() + max(_FRESH_SECONDS, took / _SHARE)
                self._known[number] = (until, queue)
            return queue


def conflicts(said: Sequence[Answered], opinion: Opinion) -> Queue:
    """Return the questions that have all their answers, and no sure label that all agree on.

    Someone who is mostly wrong contradicts everybody: that alone makes no conflict.
    """
    labels = defaultdict[int, set[str | None]](set)
    for one in said:
        if one.is_closed:
            is_heard = opinion.right_ratios.get(one.labeller, 1.0) >= _LEAST_RIGHT
            labels[one.question].add(one.label if is_heard else None)
    sure = {question: opinion.labels.get(question, ("", 0.0))[1] for question in labels}
    found = [
        question
        for question, different in labels.items()
        if len(different - {None}) > 1 or sure[question] < LEAST_CONFIDENCE
    ]
    return Queue(tuple(sorted(found, key=lambda one: (sure[one], one))), opinion)
