"""Newly labelled rows as numbered deltas: `components.labels` adds them, ingestion reads them.

A delta is a CSV file `<n>-<digest>.csv` below `labels/deltas/`, with a header of the columns that
the pipeline needs. Files are never changed. Rows with the same features are the same row to a
model, so the newest delta that has them says what their label is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from components.data.column_names import check_columns
from components.data.csv_files import read_csv, read_header
from components.data.raw_columns import WEIGHT
from components.data.raw_rows import ParsedRows, RowParser, required_columns
from contract.layout import PipelineLayout
from contract.model_io import label_key
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig

_DELTA_NAME = re.compile(r"^(\d+)-[0-9a-f]{12}\.csv$")


@dataclass(frozen=True)
class Answer:
    """Labels of a row, to be compared only, and its weight."""

    labels: str
    weight: float = 1.0


def list_deltas(layout: PipelineLayout) -> list[Path]:
    """Return a pipeline's deltas, oldest first."""
    return sorted(
        (path for path in layout.label_deltas.glob("*.csv") if _DELTA_NAME.match(path.name)),
        key=delta_number,
    )


def delta_number(delta: Path) -> int:
    """Return a delta's number; a higher one is newer."""
    return int(delta.name.partition("-")[0])


def newest_deltas(deltas: Sequence[Path], config: PipelineConfig) -> dict[bytes, str]:
    """Return the name of the newest delta that has a row, by the digest of its features."""
    return {row: delta.name for delta, row, _ in stored_answers(deltas, config)}


def delta_source(config: PipelineConfig, deltas: Sequence[Path]) -> CsvSource:
    """Return the source that reads stored deltas."""
    source = config.ingest.source
    is_stripped = source.is_stripped if isinstance(source, CsvSource) else True
    return CsvSource(kind="csv", files=tuple(str(path) for path in deltas), is_stripped=is_stripped)


def stored_answers(
    deltas: Sequence[Path], config: PipelineConfig
) -> Iterator[tuple[Path, bytes, Answer]]:
    """Yield each stored row's delta, the digest of its features, and its labels and weight."""
    parser = RowParser(config)
    for delta in deltas:
        source = delta_source(config, [delta])
        check_columns(delta, read_header(delta, source), required_columns(config))
        for rows in read_csv(delta, source):
            for row, answer in answers_in(parser.parse(rows), config):
                yield delta, row, answer


def answers_in(parsed: ParsedRows, config: PipelineConfig) -> Iterator[tuple[bytes, Answer]]:
    """Yield the digest of each row's features, and its labels and weight."""
    columns = (parsed.examples[label_key(head)].to_pylist() for head in config.heads)
    labels = map(str, zip(*columns, strict=True))
    yield from zip(parsed.contents, map(Answer, labels, _weights(parsed, config)), strict=True)


def _weights(parsed: ParsedRows, config: PipelineConfig) -> Iterable[float]:
    if config.weight is None:
        return repeat(1.0)
    return (weight for (weight,) in parsed.examples[WEIGHT].to_pylist())
