"""The work of ingestion on one batch of rows: read, parse and encode, gather to shards.

Shards are written where the rows are parsed, without a shuffle between workers: what a worker holds
is at most one shard of each split. Within a shard rows are sorted by their key's digest, which
mixes them and makes the shard's content independent of chance.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from components.data.raw_examples import encode
from components.data.raw_rows import BadRow, ParsedRows, RowParser, SourceRows, json_text
from components.data.tfrecord_shards import write_shard
from components.ingest.groups import NO_GROUPS, Groups, groups_of, joined
from components.ingest.sources import module_of
from components.ingest.splits import SplitRule
from components.ingest.units import PARTS, Part, Unit, config_of
from components.ingest.written import GROUPS, REPLACED, Written
from contract.schema.data import SPLITS
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")

_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Batch:
    """Rows as read; `number` counts the batches of a unit."""

    unit: int
    number: int
    part: Part
    rows: SourceRows


@dataclass(frozen=True)
class EncodedBatch:
    """Rows ready to write: per split the sort keys and serialized examples.

    `replaced` counts rows left out, for a newer label delta has their features. `groups` are those
    whose rows may be in several splits, as `groups_of` returns them.
    """

    unit: int
    number: int
    examples: dict[str, list[tuple[bytes, bytes]]]
    replaced: int
    bad: tuple[BadRow, ...]
    groups: Groups


def read_unit(unit: Unit) -> Iterator[Batch]:
    """Yield the rows of a unit's files.

    Raises:
        DataError: If a file is missing, broken or has no rows.
    """
    clock, shown, count, number = time.monotonic(), time.monotonic(), 0, 0
    for file in unit.files:
        for rows in module_of(unit.source).read(unit.source, file):
            yield Batch(unit.number, number, unit.part, rows)
            number, count = number + 1, count + len(rows.rows) + len(rows.bad)
            if (now := time.monotonic()) - shown > _PROGRESS_SECONDS:
                rate, shown = count / (now - clock), now
                log.info("ingest: %s: %d rows, %.0f rows/s", file, count, rate)


class BatchEncoder:
    """Parses rows, chooses their split and serializes them.

    Args:
        rule: Chooses the split of rows, except those of a separate test split.
        newest: By the digest of a row's features, the newest label delta that has them: there the
            row is taken from, and nowhere else. A separate test split stays as it is.
    """

    def __init__(
        self, config: PipelineConfig, rule: SplitRule, newest: Mapping[bytes, str]
    ) -> None:
        self._parsers = {part: RowParser(config_of(part, config)) for part in PARTS}
        self._rule = rule
        split = config.ingest.split
        self._may_part_groups = split.group is not None and split.by != "hash"
        self._newest = newest

    def encode(self, batch: Batch) -> EncodedBatch:
        """Return the rows of a batch, ready to write."""
        parsed = self._parsers[batch.part].parse(batch.rows)
        if batch.part == "test":
            splits = np.full(len(parsed.keys), SPLITS.index("test"))
        else:
            splits = self._rule.choose(parsed)
        names = [SPLITS[index] for index in splits.tolist()]
        is_replaced = self._is_replaced(batch, parsed)
        examples: dict[str, list[tuple[bytes, bytes]]] = {}
        encoded = encode(parsed.examples) if parsed.keys else []
        for name, key, example, is_old in zip(
            names, parsed.keys, encoded, is_replaced, strict=True
        ):
            if not is_old:
                examples.setdefault(name, []).append((key, example))
        groups = NO_GROUPS
        if self._may_part_groups and batch.part != "test":
            groups = groups_of(parsed.groups, splits, ~np.array(is_replaced, np.bool_))
        return EncodedBatch(
            batch.unit, batch.number, examples, sum(is_replaced), parsed.bad, groups
        )

    def _is_replaced(self, batch: Batch, parsed: ParsedRows) -> list[bool]:
        if batch.part == "test" or not self._newest:
            return [False] * len(parsed.rows)
        here = Path(batch.rows.file).name if batch.part == "labels" else ""
        return [self._newest.get(row, here) != here for row in parsed.contents]


class ShardWriter:
    """Gathers examples to shards of the target size and bad rows to files of JSON lines."""

    def __init__(self, folder: Path, shard_size_mb: float) -> None:
        self._folder = folder
        self._limit = shard_size_mb * 2**20
        self._unit = self._batch = -1
        self._held: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
        self._sizes: dict[str, int] = defaultdict(int)
        self._groups = NO_GROUPS

    def add(self, batch: EncodedBatch) -> Iterator[Written]:
        """Take in a batch; yield the files that are written."""
        if batch.unit != self._unit:
            yield from self.finish()
            self._unit = batch.unit
        for split, examples in batch.examples.items():
            self._held[split] += examples
            self._sizes[split] += sum(len(example) for _, example in examples)
        self._batch = batch.number
        self._groups = joined(self._groups, batch.groups)
        yield from self._flush([s for s, size in self._sizes.items() if size >= self._limit])
        if batch.replaced:
            yield Written(batch.unit, batch.number, REPLACED, "", batch.replaced)
        if batch.bad:
            yield write_bad_rows(self._folder, batch)

    def finish(self) -> Iterator[Written]:
        """Write what is still held."""
        yield from self._flush(list(self._held))
        if len(self._groups):
            name = f"unit-{self._unit:06d}-{self._batch:09d}-groups.npy"
            np.save(self._folder / name, self._groups)
            yield Written(self._unit, self._batch, GROUPS, name, len(self._groups))
            self._groups = NO_GROUPS

    def _flush(self, splits: Iterable[str]) -> Iterator[Written]:
        for split in splits:
            self._sizes.pop(split, None)
            examples = sorted(self._held.pop(split))
            name = f"unit-{self._unit:06d}-{self._batch:09d}-{split}"
            write_shard(self._folder / name, [example for _, example in examples])
            yield Written(self._unit, self._batch, split, name, len(examples))


def write_bad_rows(folder: Path, batch: EncodedBatch) -> Written:
    """Write one batch's bad rows as JSON lines, and count them by reason."""
    name = f"unit-{batch.unit:06d}-{batch.number:09d}-bad"
    reasons: dict[str, int] = defaultdict(int)
    samples: dict[str, str] = {}
    with (folder / name).open("w", encoding="utf-8") as file:
        for row in batch.bad:
            reasons[row.reason] += 1
            samples.setdefault(row.reason, describe_bad_row(row))
            file.write(json.dumps(asdict(row), default=json_text, ensure_ascii=False) + "\n")
    return Written(batch.unit, batch.number, "", name, len(batch.bad), dict(reasons), samples)


def describe_bad_row(row: BadRow) -> str:
    """Return where a bad row stands and the value that made it one."""
    found = f" has {row.found}" if row.found else ""
    return f"{Path(row.file).name}:{row.row}{found}"
