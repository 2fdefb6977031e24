"""The pass over raw shards: statistics of now, and now's values in yesterday's terms."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.data.raw_columns import ID, WEIGHT
from components.data.raw_examples import label_dtype, read_arrow
from components.validate.contents import Contents
from components.validate.held_numbers import HeldNumbers
from components.validate.statistics import (
    ColumnCollector,
    ColumnStatistics,
    DataStatistics,
    count_in_bins,
    count_outside,
)
from contract.errors import DataError
from contract.model_io import label_key
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")

Kind = Literal["numeric", "categorical"]
Counts = npt.NDArray[np.int64]
Shards = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Yardsticks:
    """What this run's values are counted against: bins of the last run, categories in force."""

    bin_edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    domains: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """Statistics by split; the train split in the yardsticks' bins; values outside the domains."""

    statistics: DataStatistics
    counts_in_old_bins: dict[str, Counts]
    outside_domain: dict[str, int]
    repeated_rows: dict[str, int] = field(default_factory=dict)


def scan(config: PipelineConfig, shards: Shards, yardsticks: Yardsticks, folder: Path) -> Scan:
    """Read every split once and return what was found.

    Args:
        folder: Where numbers are held that are too many for memory.

    Raises:
        DataError: If a shard is missing or damaged.
    """
    outside = dict.fromkeys(yardsticks.domains, 0)
    domains = {
        name: pa.array([value.encode() for value in values], pa.large_binary())
        for name, values in yardsticks.domains.items()
    }
    splits: dict[str, dict[str, ColumnStatistics]] = {}
    in_old_bins: dict[str, Counts] = {}
    contents = Contents.of(config)
    for split, paths in shards.items():
        collectors = {name: ColumnCollector(kind) for name, kind in kinds(config).items()}
        with HeldNumbers(folder) as held:
            for batch in _batches(config, paths):
                contents.add(split, batch)
                for name, column in _columns(config, batch):
                    collectors[name].add(column, partial(held.add, name))
                    if name in domains:
                        outside[name] += count_outside(column, domains[name])
            splits[split] = {name: c.result(held.of(name)) for name, c in collectors.items()}
            if split == "train":
                in_old_bins = _in_old_bins(splits[split], held, yardsticks)
    return Scan(DataStatistics(splits=splits), in_old_bins, outside, contents.repeated())


def kinds(config: PipelineConfig) -> dict[str, Kind]:
    """Return each column's kind; labels of classification are categories, by name."""
    columns: dict[str, Kind] = {
        name: "categorical" if feature.dtype == "string" else "numeric"
        for name, feature in config.features.items()
    }
    for head in config.heads:
        is_number = label_dtype(config, head) == "float32"
        columns[label_key(head)] = "numeric" if is_number else "categorical"
    return columns | ({WEIGHT: "numeric"} if config.weight is not None else {})


def check_rows(statistics: DataStatistics, expected: Mapping[str, int]) -> None:
    """Raise DataError if a split has not the rows that ingestion wrote: a shard was cut short."""
    for split, columns in statistics.splits.items():
        found = next(iter(columns.values())).rows
        if found != expected[split]:
            raise DataError(
                f"ingest/{split}: {found:,} rows are there, {expected[split]:,} were written: a "
                "shard is truncated. Delete the run's 'ingest' folder and run it again."
            )


# --- inside -------------------------------------------------------------------------------------


def _batches(config: PipelineConfig, shards: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    started, rows = time.monotonic(), 0
    shown = started
    for batch in read_arrow(shards, config):
        yield batch
        rows += batch.num_rows
        if (now := time.monotonic()) - shown > 10.0:
            log.info("validate: %d rows, %.0f rows/s", rows, rows / (now - started))
            shown = now


def _columns(config: PipelineConfig, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    """Yield all columns but the ids; labels of classification by the names of their classes."""
    classes = {
        label_key(head): pa.array([name.encode() for name in settings.classes], pa.large_binary())
        for head, settings in config.heads.items()
        if settings.task != "regression"
    }
    for name in batch.schema.names:
        if name != ID:
            yield name, _named(batch[name], classes[name]) if name in classes else batch[name]


def _named(column: pa.Array, classes: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(column.offsets, pc.take(classes, column.values))


def _in_old_bins(
    train: Mapping[str, ColumnStatistics], held: HeldNumbers, yardsticks: Yardsticks
) -> dict[str, Counts]:
    return {
        name: count_in_bins(held.of(name), edges)
        for name, edges in yardsticks.bin_edges.items()
        if name in train and train[name].kind == "numeric"
    }
