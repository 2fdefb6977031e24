"""What the store is given and returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Topic:
    """What questions are about: a head of a pipeline, its classes, and the inputs by name.

    `features` has for each input its dtype and shape, so that a page knows how to show it.
    """

    pipeline: str
    head: str
    classes: tuple[str, ...]
    features: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class NewQuestion:
    """A row to ask about. `guesses` are the model's classes with their scores, the best first."""

    request_id: str
    row: int
    inputs: Mapping[str, Any]
    guesses: tuple[tuple[str, float], ...] = ()
    version: int = 0
    probability: float = 1.0
    audit_probability: float = 0.0
    is_audit: bool = False
    gold: str | None = None  # the right answer, where it is known


@dataclass(frozen=True)
class Asked:
    """A question as one labeller gets it; nothing of other people's answers."""

    question: int
    inputs: Mapping[str, Any]
    guesses: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answered:
    """One person's answer; `label` is None for "can't tell".

    `decided` is the label on which a reviewer has decided; `is_untellable` says that the decision
    is that nobody can tell.
    """

    question: int
    request_id: str
    row: int
    labeller: str
    label: str | None
    gold: str | None
    version: int
    probability: float
    audit_probability: float
    is_audit: bool
    answered_at: float
    decided: str | None = None
    is_untellable: bool = False
    is_closed: bool = False  # the question has all its answers


@dataclass(frozen=True)
class Truth:
    """What has turned out to be true of a row of a request."""

    request_id: str
    row: int
    label: str


@dataclass(frozen=True)
class Decision:
    """What a reviewer has decided; `label` is None if nobody can tell."""

    question: int
    label: str | None
    author: str
    decided_at: float


@dataclass(frozen=True)
class Disputed:
    """A question as a reviewer sees it: the model's guesses, and who has said what.

    `said` has labeller and label in the order of time; None is "can't tell".
    """

    question: int
    inputs: Mapping[str, Any]
    guesses: tuple[tuple[str, float], ...]
    said: tuple[tuple[str, str | None], ...]
    decision: Decision | None


@dataclass(frozen=True)
class Standing:
    """What a labeller has reached, and how far the questions are."""

    name: str
    points: int
    streak: int
    answers: int
    closed: int  # questions that have all their answers
    questions: int


@dataclass(frozen=True)
class Question:
    """A stored question, as files of others hold it, and as a model learns from it.

    `harvest` is the same number for all questions that were added together.
    """

    question: int
    request_id: str
    row: int
    inputs: Mapping[str, Any]
    guesses: tuple[tuple[str, float], ...]
    version: int
    probability: float
    audit_probability: float
    is_audit: bool
    harvest: int
