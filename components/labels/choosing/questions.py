"""`choose_questions`: from the prediction log to rows to ask about, and their CSV file."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from components.labels.choosing import measures
from components.labels.choosing.asked import Inputs, asked_cells
from components.labels.choosing.candidates import (
    Candidates,
    NothingToAskError,
    Period,
    read_candidates,
    shadow_scores,
)
from components.labels.choosing.choice import Budget, Chosen, Variety, choose
from components.labels.choosing.measures import Floats
from components.labels.choosing.sampling import Doubles
from components.labels.choosing.sketches import Sketches
from contract.errors import UserError, did_you_mean
from contract.layout import PipelineLayout
from contract.schema.labels import Measure
from contract.schema.pipeline import PipelineConfig

_REFERENCES = 1_000  # rows that stand for the usual ones, for novelty
# Digits of a probability: a weight of one over it is then right to 1e-8.
_PRECISION = 9


@dataclass(frozen=True)
class Wish:
    """What is to be asked: of which head, by which measure, how much, and of which hours.

    `asked` has the inputs of rows that people were asked about before.
    """

    head: str
    measure: Measure
    budget: Budget
    variety: Variety = field(default_factory=Variety)
    period: Period = field(default_factory=Period)
    asked: Iterable[Inputs] = ()


@dataclass(frozen=True)
class Question:
    """A row to ask about, with what the model thinks of it; scores by class, the best first."""

    request_id: str
    row: int
    version: int
    guesses: tuple[tuple[str, float], ...]
    worth: float
    probability: float
    audit_probability: float
    is_audit: bool


def head_to_ask(config: PipelineConfig, name: str = "") -> str:
    """Return the head that is asked about: the named one, or the only one with classes.

    Raises:
        UserError: If there is none, or if there are several and none is named.
    """
    known = [head for head, of_head in config.heads.items() if of_head.classes]
    if name in known:
        return name
    if name or len(known) != 1:
        found = f"found '{name}'{did_you_mean(name, known)}" if name else "name one of them"
        raise UserError(
            f"{config.name}: --head: expected a head with classes "
            f"({', '.join(known) or 'there is none'}); {found}"
        )
    return known[0]


def choose_questions(
    layout: PipelineLayout, config: PipelineConfig, wish: Wish, random: np.random.Generator
) -> list[Question]:
    """Choose rows of the prediction log to ask about.

    Raises:
        NothingToAskError: If the log has no row with its inputs and the config's number of
            classes, or, for disagreement, no shadow's answer.
    """
    sketches = Sketches(config.features)
    candidates = read_candidates(layout, config, wish.head, wish.period, sketches)
    worth = _worth(layout, wish, candidates, random)
    asked = asked_cells(wish.asked, config.features, sketches, wish.variety.tolerance)
    variety = replace(wish.variety, asked=asked)
    chosen = choose(candidates, worth, wish.budget, variety, random)
    return [*_questions(candidates, worth, chosen, config.heads[wish.head].classes)]


def guesses_of(scores: Floats, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return the classes with their scores, the best first."""
    return tuple((classes[at], float(scores[at])) for at in np.argsort(-scores, kind="stable"))


def as_csv(questions: list[Question], label_column: str) -> str:
    """Return the questions as a CSV file whose last column, of the labels, is empty.

    Filled in, `slipway labels add` and `slipway judge labels` read it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("request_id", "row", "version", "predicted", "score", "worth", "probability"),
            *("audit_probability", "is_audit", label_column),
        ]
    )
    for one in questions:
        predicted, score = one.guesses[0]
        numbers = (one.worth, one.probability, one.audit_probability)
        rounded = [f"{number:.{_PRECISION}g}" for number in numbers]
        is_audit = str(one.is_audit).lower()
        line: list[Any] = [one.request_id, one.row, one.version, predicted, f"{score:.4f}"]
        writer.writerow([*line, *rounded, is_audit, ""])
    return text.getvalue()


def _worth(
    layout: PipelineLayout, wish: Wish, candidates: Candidates, random: np.random.Generator
) -> Doubles:
    if wish.measure == "disagreement":
        is_known, others = shadow_scores(layout, wish.head, wish.period, candidates)
        if not is_known.any():
            raise NothingToAskError(
                f"{layout.prediction_logs}: no shadow has answered any of {len(candidates):,} "
                "rows; choose by margin, or while a version is in its shadow phase"
            )
        return measures.disagreement(candidates.scores, others).astype(float) * is_known
    if wish.measure == "novelty":
        some = random.choice(len(candidates), min(_REFERENCES, len(candidates)), replace=False)
        return measures.novelty(candidates.sketches, candidates.sketches[some]).astype(float)
    by_scores = {
        "least_confidence": measures.least_confidence,
        "margin": measures.margin,
        "entropy": measures.entropy,
    }
    return by_scores[wish.measure](candidates.scores).astype(float)


def _questions(
    candidates: Candidates, worth: Doubles, chosen: Chosen, classes: tuple[str, ...]
) -> Iterator[Question]:
    ids = candidates.request_ids.take(chosen.places).to_pylist()
    for position, place in enumerate(chosen.places):
        scores = candidates.scores[place]
        yield Question(
            request_id=ids[position],
            row=int(candidates.rows[place]),
            version=int(candidates.versions[place]),
            guesses=guesses_of(scores, classes),
            worth=float(worth[place]),
            probability=float(chosen.probabilities[position]),
            audit_probability=float(chosen.audit_probabilities[position]),
            is_audit=bool(chosen.is_audit[position]),
        )
