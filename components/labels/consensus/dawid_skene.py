"""The label of each question and each labeller's errors, found together from the answers alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.labels.consensus.answers import Answers, Doubles

# Nothing is known at first: of each class, the crowd is taken to have given a right answer and one
# that says nothing; and each labeller two answers as the crowd gives them, so that nobody with few
# answers seems to be always right. Two more are right as often as that labeller is over all
# classes, and else any wrong class: who has labelled ten rows of a class shows little of how they
# err in it, but much of how often they do. This changes little for those who gave hundreds.
_RIGHT, _EVEN = 1.0, 1.0
_AS_THE_CROWD = 2.0
_AS_IN_ALL_CLASSES = 2.0
_PRIOR_QUESTIONS = 1.0  # of each class, so that none that was seldom seen is given up
_MOST_ROUNDS = 200
_CLOSE = 1e-6  # largest change of a probability after which it ends


@dataclass(frozen=True)
class Consensus:
    """What the answers say together.

    Attributes:
        probabilities: Of each class being the right one, ``[questions, classes]``.
        confusion: What a labeller says where a class is right, ``[labellers, right, said]``; each
            row sums to 1.
        prevalence: Share of the questions of which a class is right, ``[classes]``.
    """

    probabilities: Doubles
    confusion: Doubles
    prevalence: Doubles


def dawid_skene(answers: Answers, known: Mapping[int, int] | None = None) -> Consensus:
    """Return the most likely labels and confusion matrices, by expectation maximisation.

    It begins with the shares of the votes. In the end each question is judged by what the others
    tell of the labellers: its own answers would confirm themselves where there are few. Someone
    who always answers wrongly is understood as well as someone who is always right, and someone
    who guesses does not count.

    Args:
        answers: At least one.
        known: The right class by the number of a question (gold questions); they teach who errs.

    Source:
        Dawid and Skene (1979), Maximum Likelihood Estimation of Observer Error-Rates Using the EM
        Algorithm, Applied Statistics 28, equations 2.3 to 2.5. We depart from it by the prior
        answers above: hierarchical priors as of Kim and Ghahramani (2012), held simple; by the one
        of all classes, few answers are judged as the paper's model with one error rate for each
        person would (`bench_labels.py` shows what it brings).
    """
    gold = known or {}
    votes = answers.votes()
    probabilities = _with_known(votes / votes.sum(axis=1, keepdims=True), gold)
    for _ in range(_MOST_ROUNDS):
        counts, before = _counts(answers, probabilities), probabilities
        labels = _labels(answers, counts, probabilities, is_left_out=False)
        probabilities = _with_known(labels, gold)
        if np.abs(probabilities - before).max() < _CLOSE:
            break
    counts = _counts(answers, probabilities)
    labels = _labels(answers, counts, probabilities, is_left_out=True)
    confusion = counts / counts.sum(axis=2, keepdims=True)
    return Consensus(_with_known(labels, gold), confusion, _prevalence(probabilities))


def _prevalence(probabilities: Doubles) -> Doubles:
    found: Doubles = probabilities.sum(axis=0) + _PRIOR_QUESTIONS
    shares: Doubles = found / found.sum()
    return shares


def _counts(answers: Answers, probabilities: Doubles) -> Doubles:
    """Return what each labeller said where a class is right (equation 2.3, with the prior)."""
    classes, labellers = len(answers.classes), len(answers.labellers)
    cells = answers.labeller * classes + answers.said
    counts = np.stack(
        [
            np.bincount(cells, probabilities[answers.question, right], labellers * classes)
            for right in range(classes)
        ]
    ).reshape(classes, labellers, classes)
    own = counts.transpose(1, 0, 2).astype(float)
    crowd = counts.sum(axis=1) + _RIGHT * np.eye(classes) + _EVEN / classes
    prior = _AS_THE_CROWD * crowd / crowd.sum(axis=1, keepdims=True)
    right = np.trace(own, axis1=1, axis2=2) + np.trace(prior) / classes
    ratios = (right / (own.sum(axis=(1, 2)) + _AS_THE_CROWD))[:, None, None]
    wrong = (1 - ratios) / max(classes - 1, 1)
    in_all_classes = np.where(np.eye(classes, dtype=bool), ratios, wrong)
    found: Doubles = own + prior + _AS_IN_ALL_CLASSES * in_all_classes
    return found


def _labels(
    answers: Answers, counts: Doubles, probabilities: Doubles, is_left_out: bool
) -> Doubles:
    """Return the probability of each class, given the errors (equation 2.5).

    Args:
        answers: What was said.
        counts: As `_counts` returns them for `probabilities`.
        probabilities: Of the round before.
        is_left_out: Whether a question is judged by what the others tell of the labellers.
    """
    own = probabilities[answers.question] * is_left_out
    said = counts[answers.labeller, :, answers.said] - own
    logs = np.log(said / (counts.sum(axis=2)[answers.labeller] - own))
    found = np.stack(
        [np.bincount(answers.question, of_class, len(probabilities)) for of_class in logs.T], axis=1
    )
    share = probabilities.sum(axis=0) + _PRIOR_QUESTIONS - probabilities * is_left_out
    found += np.log(share)
    likely = np.exp(found - found.max(axis=1, keepdims=True))
    shares: Doubles = likely / likely.sum(axis=1, keepdims=True)
    return shares


def _with_known(probabilities: Doubles, known: Mapping[int, int]) -> Doubles:
    for question, right in known.items():
        probabilities[question] = 0
        probabilities[question, right] = 1
    return probabilities
