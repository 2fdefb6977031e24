"""A row of the prediction log as the page shows it, and which rows somebody wants to see."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contract.prediction_log.json_values import as_json
from contract.records.package import PackageManifest
from contract.records.prediction import Prediction
from serving.labels.page.shown import Shown, shown

_MOST_PICTURE = 24_000  # characters of a picture's address: larger ones are told in words
_MOST_CELLS, _MOST_TEXT = 40, 300


@dataclass(frozen=True)
class Answer:
    """What one head said: the class or the number, and the class's score."""

    head: str
    label: str
    confidence: float | None


@dataclass(frozen=True)
class LiveRow:
    """One row of one request, small enough to be kept for everybody who looks."""

    key: tuple[str, int]  # the request's id and the row's place in it
    time: datetime
    version: int
    arm: str
    status: int
    latency_ms: float
    answers: tuple[Answer, ...]
    inputs: Shown

    @property
    def as_json(self) -> dict[str, Any]:
        """The row as the page's script reads it."""
        return {
            "request": self.key[0],
            "row": self.key[1],
            "time": f"{self.time:%H:%M:%S}",
            "version": self.version,
            "arm": self.arm,
            "status": self.status,
            "ms": round(self.latency_ms, 2),
            "answers": [vars(one) for one in self.answers],
            "pictures": [vars(one) for one in self.inputs.pictures],
            "cells": self.inputs.texts + self.inputs.cells,
        }


@dataclass(frozen=True)
class Wanted:
    """Which rows somebody wants to see; what is None does not count."""

    version: int | None = None
    arm: str | None = None
    label: str | None = None
    below: float | None = None

    def has(self, row: LiveRow) -> bool:
        """Tell whether a row is wanted: one head says the class, and one is less sure."""
        scores = [one.confidence for one in row.answers if one.confidence is not None]
        return (
            (self.version is None or row.version == self.version)
            and (self.arm is None or row.arm == self.arm)
            and (self.label is None or any(one.label == self.label for one in row.answers))
            and (self.below is None or any(score < self.below for score in scores))
        )


def live_row(found: Prediction, manifest: PackageManifest | None) -> LiveRow:
    """Return a logged row as it is shown; without its package classes are numbers."""
    heads = manifest.heads if manifest else {}
    answers = []
    for head, value in found.predicted.items():
        classes = heads[head].classes if head in heads else ()
        is_known = isinstance(value, int) and 0 <= value < len(classes)
        label = classes[int(value)] if is_known else f"{value:.6g}"
        answers.append(Answer(head, label[:_MOST_TEXT], _finite(found.confidence.get(head))))
    specs = manifest.inputs if manifest else {}
    features = {name: {"shape": spec.shape} for name, spec in specs.items()}
    sent = {name: value for name, value in (found.inputs or {}).items() if value is not None}
    return LiveRow(
        key=(found.request_id, found.row),
        time=found.time,
        version=found.version,
        arm=found.arm,
        status=found.status,
        latency_ms=1000 * found.latency_seconds,
        answers=tuple(answers),
        inputs=_small(shown(as_json(sent), features)),
    )


def _small(found: Shown) -> Shown:
    """Cut what is long: a page holds many rows, and so does the server."""
    pictures = [one for one in found.pictures if len(one.source) <= _MOST_PICTURE]
    cells = [(one.words, "too large") for one in found.pictures if one not in pictures]
    cells += [(name[:_MOST_TEXT], text[:_MOST_TEXT]) for name, text in found.texts + found.cells]
    return Shown(pictures[:4], [], cells[:_MOST_CELLS])


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
