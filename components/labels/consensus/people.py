"""Whose answers say something: who guesses, and who answers wrongly on purpose."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.labels.consensus.answers import Answers, Doubles
from components.labels.consensus.dawid_skene import Consensus

Kind = Literal["reliable", "guesses", "wrong", "new"]

ENOUGH = 20  # answers, below which nobody is judged
# Of the information of one who is always right; someone right in 40 % of two classes' questions
# or in 60 % has 0.04, someone right in 80 % has 0.36.
_GUESSES_BELOW = 0.1


@dataclass(frozen=True)
class Labeller:
    """One person's answers. `accuracy_ratio` and `information_ratio` are estimates, 0..1."""

    name: str
    answers: int
    accuracy_ratio: float
    information_ratio: float
    kind: Kind


def labellers(answers: Answers, found: Consensus) -> Iterator[Labeller]:
    """Yield each labeller, in their order."""
    counts = np.bincount(answers.labeller, minlength=len(answers.labellers))
    accuracies = (np.diagonal(found.confusion, axis1=1, axis2=2) * found.prevalence).sum(axis=1)
    for number, name in enumerate(answers.labellers):
        accuracy = float(accuracies[number])
        info = information(found.confusion[number])
        kind = _kind(int(counts[number]), accuracy, info, len(answers.classes))
        yield Labeller(name, int(counts[number]), accuracy, info, kind)


def information(confusion: Doubles) -> float:
    """Return how far the answer depends on the right class: 0 for guesses, 1 for no error.

    Someone who always confuses the same two classes has 1 too: their answers can be translated.

    Args:
        confusion: Of one labeller, ``[right, said]``.

    Source:
        Raykar and Yu (2012), Eliminating Spammers and Ranking Annotators for Crowdsourced Labeling
        Tasks, JMLR 13, equation 9: the mean squared distance between two rows, over its most.
    """
    classes = len(confusion)
    # over all pairs of rows, and without their table, which has a size of classes cubed
    distances = 2 * classes * (confusion**2).sum() - 2 * (confusion.sum(axis=0) ** 2).sum()
    return max(0.0, float(distances / (2 * classes * (classes - 1))))


def _kind(answers: int, accuracy: float, info: float, classes: int) -> Kind:
    if answers < ENOUGH:
        return "new"
    if accuracy < 0.5 / classes:  # half of what a guess reaches
        return "wrong"
    return "guesses" if info < _GUESSES_BELOW else "reliable"
