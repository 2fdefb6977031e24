"""Candidate against champion on each declared slice: a mean may hide whom a model fails."""

from collections.abc import Iterator, Mapping

import numpy as np

from components.bless.answers import TestSplit
from components.bless.comparison import compare
from components.bless.verdict import Asked, Finding, on_slice, too_few_of_a_class
from components.quality.metrics import Answers, Array
from contract.schema.pipeline import PipelineConfig

RowsBySlice = Mapping[str, Mapping[str, Array]]  # by feature, then value


def rows_by_slice(test: TestSplit) -> RowsBySlice:
    """Return the rows of each value of each feature in `evaluate.slices`, in the test's order."""
    values: dict[str, list[Array]] = {name: [] for name in test.config.evaluate.slices}
    if not values:
        return {}
    for columns, _ in test.batches():
        for name, found in values.items():
            found.append(columns.features[name])
    return {name: _rows_by_value(np.concatenate(found)) for name, found in values.items()}


def _rows_by_value(column: Array) -> dict[str, Array]:
    texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in column]
    names, places = np.unique(np.array(texts, object), return_inverse=True)
    return {str(name): np.flatnonzero(places == place) for place, name in enumerate(names)}


def on_slices(
    pair: tuple[Answers, Answers], slices: RowsBySlice, version: int, config: PipelineConfig
) -> Iterator[Finding]:
    """Refuse a candidate that is shown to be worse than a version on a declared slice.

    By the metric and the head that decide. A slice with fewer rows than
    `bless.min_examples_per_class` is left out. The chance that a candidate that is not worse is
    refused for any of the slices is 1 - `bless.confidence`, divided over them (Bonferroni 1936).
    """
    settings, head = config.bless, config.heads[config.blessing_head]
    asked = [
        (feature, value, rows)
        for feature, by_value in slices.items()
        for value, rows in by_value.items()
        if len(rows) >= settings.min_examples_per_class
        and not too_few_of_a_class(pair[0].labels[rows], head.classes, settings.metric, settings)
    ]
    for feature, value, rows in asked:
        confidence = 1 - (1 - settings.confidence) / len(asked)
        part = (pair[0].at(rows), pair[1].at(rows))
        comparison = compare(head.task, settings.metric, part, confidence)
        margin = settings.slice_margins.get(feature, settings.margin)
        question = Asked(settings.metric, margin)
        yield on_slice(f"{feature}={value}", comparison, version, question, len(rows))
