"""From people's answers to rows that a model learns from: settled, sure, and no audit rows."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.labels.consensus.settling import AnswerFile, Settlement
    from serving.labels.store.records import Answered, Question

Place = tuple[str, str]  # a request's id and the number of one of its rows

_VERSION = "\0version "  # begins no person's name


@dataclass(frozen=True)
class Learned:
    """A label of a row; `weight` is 1 on average over a harvest."""

    place: Place
    label: str
    weight: float


def settled(said: "Sequence[Answered]", classes: Sequence[str]) -> "Settlement":
    """Return the consensus of the answers, and what a reviewer has decided.

    Gold questions teach who errs. Rows of which nobody can tell, as a reviewer has decided, are not
    among the labels.

    Raises:
        NoAnswersError: If nobody has answered.
    """
    from components.labels.consensus.settling import settle

    return settle(_given(said), classes)


def settled_with_models(
    said: "Sequence[Answered]", questions: "Iterable[Question]", classes: Sequence[str]
) -> "Settlement":
    """Return the consensus of the answers and of what the versions in service have guessed.

    Each version is one more labeller, of whom it is estimated as of a person how often it errs in
    the rows that people were asked about. Labels to learn from are wrong less often so; one that a
    version has helped to make must not measure it. Votes count people only.

    Raises:
        NoAnswersError: If nobody has answered.

    Source:
        Goh, Tkachenko and Mueller (2022), CROWDLAB, who join the model's probabilities as a
        weighted mean. We join its best guess in Dawid and Skene's model, which understands people
        who answer wrongly on purpose, too.
    """
    from components.labels.consensus.settling import Settlement, settle

    given = _given(said)
    asked = {place for place, _, _ in given.said}
    guesses = dict[Place, str]()
    for one in questions:
        place = (one.request_id, str(one.row))
        if place in asked and one.guesses and one.guesses[0][0] in classes:
            guesses[place] = one.guesses[0][0]
            given.said.append((place, f"{_VERSION}{one.version}", guesses[place]))
    found = settle(given, classes)
    labels = (
        replace(one, votes=one.votes - 1, agreement=one.agreement - (guess == one.label))
        if (guess := guesses.get(one.place)) is not None
        else one
        for one in found.labels
    )
    people = (one for one in found.people if not one.name.startswith(_VERSION))
    return Settlement(tuple(labels), tuple(people))


def _given(said: "Sequence[Answered]") -> "AnswerFile":
    from components.labels.consensus.settling import AnswerFile

    given = AnswerFile()
    for one in said:
        place = (one.request_id, str(one.row))
        if one.label is not None and not one.is_untellable:
            given.said.append((place, one.labeller, one.label))
        if one.gold is not None:
            given.gold[place] = one.gold
        if one.decided is not None:
            given.decided[place] = one.decided
    return given


def weights_of(questions: "Iterable[Question]") -> dict[Place, float]:
    """Return the rows to learn from with their weights, 1 on average over each harvest.

    An audit row is none of them: it measures models. A row weighs one over the probability that it
    was chosen by worth and not by the audit, so that unsure rows do not count as often as they are
    asked. The mean is over all rows of a harvest, answered or not: a weight never changes, and a
    row that was added stays as it is.
    """
    weights, harvests = dict[Place, float](), defaultdict[int, list[Place]](list)
    for one in questions:
        if not one.is_audit and one.probability > one.audit_probability:
            place = (one.request_id, str(one.row))
            weights[place] = 1 / (one.probability - one.audit_probability)
            harvests[one.harvest].append(place)
    for places in harvests.values():
        mean = sum(weights[place] for place in places) / len(places)
        weights |= {place: weights[place] / mean for place in places}
    return weights


def to_learn(
    found: "Settlement", weights: Mapping[Place, float], least_confidence: float, people: int
) -> list[Learned]:
    """Return the labels to learn from.

    Args:
        found: What the answers say together.
        weights: Of the rows to learn from; labels of others are left out.
        least_confidence: Labels that are less sure are left out.
        people: Labels with fewer answers are left out, unless a reviewer has decided.
    """
    return [
        Learned(label.place, label.label, weights[label.place])
        for label in found.labels
        if label.place in weights
        and label.confidence >= least_confidence
        and (label.is_decided or label.votes >= people)
    ]


def as_csv(learned: Iterable[Learned], column: str, weight_column: str | None) -> str:
    """Return labels as `slipway labels add` reads them, with weights if the pipeline has them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    weight = [weight_column] if weight_column is not None else []
    writer.writerow(["request_id", "row", column, *weight])
    for one in learned:
        more = [f"{one.weight:.6g}"] if weight_column is not None else []
        writer.writerow([*one.place, one.label, *more])
    return text.getvalue()


def in_words(
    found: "Settlement", gold: Mapping[str, tuple[int, int]] | None = None
) -> Iterator[str]:
    """Yield a line for each labeller.

    Args:
        found: What the answers say together.
        gold: By labeller, how many gold questions they have answered, and how many rightly.
    """
    words = {
        "reliable": "right in an estimated {0.accuracy_ratio:.0%}",
        "guesses": "guesses: the answers say nothing of the classes",
        "wrong": "answers wrongly: right in an estimated {0.accuracy_ratio:.0%}",
        "new": "too few to be judged",
    }
    for one in found.people:
        asked, right = (gold or {}).get(one.name, (0, 0))
        known = f"; {right:,} of {asked:,} gold questions right" if asked else ""
        yield f"{one.name}: {one.answers:,} answers, {words[one.kind].format(one)}{known}"
