"""What there is to read, cut into units of work: each a few files of one part of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from components.data.label_deltas import delta_source
from components.ingest.sources import checked_columns, module_of
from contract.schema.data import Source
from contract.schema.pipeline import PipelineConfig
from contract.schema.split import SplitConfig

# Shards do not reach over units, so a unit should fill several.
_SHARDS_PER_UNIT = 4

Part = Literal["main", "labels", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Unit:
    """Files that one worker reads in order. Rows of part `test` all go to the split `test`."""

    number: int
    part: Part
    source: Source
    files: tuple[Path, ...]


def plan_units(
    config: PipelineConfig, deltas: Sequence[Path]
) -> tuple[list[Unit], tuple[str, ...]]:
    """Return the units of work and the names of all columns that the sources have.

    Every file is opened: one that is missing, empty or lacks a column is found before any work.

    Raises:
        DataError: With the file and what is wrong with it.
    """
    parts: list[tuple[Part, Source]] = [("main", config.ingest.source)]
    if deltas:
        parts.append(("labels", delta_source(config, deltas)))
    if config.ingest.test_source is not None:
        parts.append(("test", config.ingest.test_source))
    units: list[Unit] = []
    columns: dict[str, None] = {}
    limit = config.ingest.shard_size_mb * 2**20 * _SHARDS_PER_UNIT
    for part, source in parts:
        files = module_of(source).files(source)
        for file in files:
            columns.update(dict.fromkeys(checked_columns(source, file, config_of(part, config))))
        packs = _packed(source, files, limit)
        units += [Unit(len(units) + n, part, source, pack) for n, pack in enumerate(packs)]
    return units, tuple(columns)


def config_of(part: Part, config: PipelineConfig) -> PipelineConfig:
    """Return how the rows of a part are parsed: what decides a split is not looked at in `test`."""
    if part != "test":
        return config
    split = SplitConfig(key=config.ingest.split.key)
    ingest = config.ingest.model_copy(update={"split": split})
    return config.model_copy(update={"ingest": ingest})


def _packed(source: Source, files: Sequence[Path], limit: float) -> Iterator[tuple[Path, ...]]:
    pack: list[Path] = []
    size = 0
    for file in files:
        pack.append(file)
        size += module_of(source).size_bytes(source, file)
        if size >= limit:
            yield tuple(pack)
            pack, size = [], 0
    if pack:
        yield tuple(pack)
