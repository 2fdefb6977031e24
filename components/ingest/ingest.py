"""Ingestion: raw data and label deltas to sharded TFRecords of raw examples by split.

Beam runs it where the config asks for a runner or for options of one; else this process does.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.data.beam_pipelines import is_in_this_process, running_pipeline
from components.data.label_deltas import newest_deltas
from components.data.raw_rows import RowParser, required_columns
from components.ingest.batches import BatchEncoder, ShardWriter, read_unit
from components.ingest.gathering import (
    check_bad_rows,
    count_parted_groups,
    gather_bad_rows,
    gather_shards,
)
from components.ingest.splits import Indices, split_rule
from components.ingest.units import Unit, plan_units
from components.ingest.written import REPLACED, Written, as_json
from contract.errors import DataError
from contract.records.data import IngestRecord
from contract.schema.pipeline import PipelineConfig
from contract.schema.split import SplitConfig

log = logging.getLogger("slipway")

EXAMPLES = "examples"
DEAD_LETTER = "dead-letter.jsonl"
_SUMMARY = "written.json"


def ingest(
    config: PipelineConfig, deltas: Sequence[Path], output: Path, failed_rows: Path
) -> IngestRecord:
    """Read all sources, write shards to `output` and return what is there.

    Args:
        deltas: CSV files of newly labelled rows, read in addition to the source. A row of them
            replaces those of the source and of older deltas that have the same features; a
            `test_source` stays as it is.
        output: An empty folder. Shards go to its folder `examples`, bad rows to a file beside it.
        failed_rows: Where the bad rows are kept if there are too many of them.

    Raises:
        DataError: If a file is missing, empty, truncated or lacks a column; if more than
            `ingest.max_bad_ratio` of the rows are bad; if a split ends up without rows.
    """
    units, columns = plan_units(config, deltas)
    unused = sorted(set(columns) - set(required_columns(config)))
    if unused:
        log.info("ingest: columns that the config does not name are left out: %s", unused)
    log.info("ingest: files: %d, units: %d", sum(len(u.files) for u in units), len(units))
    folder = output / EXAMPLES
    folder.mkdir()
    rule = split_rule(config.ingest, lambda: _times(config, units))
    encoder = BatchEncoder(config, rule, newest_deltas(deltas, config))
    run = _run_here if is_in_this_process(config.ingest.beam) else _run_in_beam
    written = run(config, units, encoder, folder)
    shards, examples = gather_shards(folder, written)
    parted, groups = count_parted_groups(folder, written)
    bad = gather_bad_rows(folder, written, output / DEAD_LETTER)
    check_bad_rows(bad, sum(examples.values()), config.ingest.max_bad_ratio, failed_rows)
    _check_splits(config.ingest.split, examples)
    return IngestRecord(
        shards={split: tuple(f"{EXAMPLES}/{name}" for name in n) for split, n in shards.items()},
        examples=examples,
        bad_rows=bad.count,
        bad_row_reasons=dict(bad.reasons),
        dead_letter=bad.path.name if bad.path else "",
        label_deltas=tuple(path.name for path in deltas),
        replaced_rows=sum(one.rows for one in written if one.split == REPLACED),
        columns=columns,
        cuts=tuple(_as_text(cut) for cut in rule.cuts),
        groups=groups,
        parted_groups=parted,
    )


def _times(config: PipelineConfig, units: Sequence[Unit]) -> Iterator[Indices]:
    """Yield the times of all rows, but of a separate test split, as far as they can be read."""
    parser = RowParser(config)
    for unit in units:
        if unit.part != "test":
            for batch in read_unit(unit):
                yield parser.times(batch.rows)


def _as_text(cut: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=cut)).isoformat()


def _run_here(
    config: PipelineConfig, units: Sequence[Unit], encoder: BatchEncoder, folder: Path
) -> list[Written]:
    """Do the work unit by unit and return what was written, in the order of the source."""
    writer = ShardWriter(folder, config.ingest.shard_size_mb)
    written: list[Written] = []
    failures = []
    for unit in units:
        try:
            for batch in read_unit(unit):
                written += writer.add(encoder.encode(batch))
        except DataError as error:
            failures.append(str(error))
    if failures:
        raise DataError("\n".join(sorted(failures)))
    return sorted([*written, *writer.finish()])


def _run_in_beam(
    config: PipelineConfig, units: Sequence[Unit], encoder: BatchEncoder, folder: Path
) -> list[Written]:
    """Run the Beam pipeline and return what its workers wrote, in the order of the source."""
    import apache_beam as beam
    from apache_beam.transforms.combiners import ToList

    from components.ingest.stages import FAILED, EncodeRows, ReadUnit, WriteShards

    with running_pipeline(config.ingest.beam, "ingest") as pipeline:
        read = (
            pipeline
            | "Units" >> beam.Create(units, reshuffle=len(units) > 1)
            | "ReadUnit" >> beam.ParDo(ReadUnit()).with_outputs(FAILED, main="rows")
        )
        written = (
            read.rows
            | "EncodeRows" >> beam.ParDo(EncodeRows(encoder))
            | "WriteShards" >> beam.ParDo(WriteShards(folder, config.ingest.shard_size_mb))
            | "AsJson" >> beam.Map(as_json)
        )
        _ = (
            (written, read[FAILED] | "Failed" >> beam.Map(lambda text: json.dumps(text)))
            | "Together" >> beam.Flatten()
            | "Gather" >> ToList()
            | "WriteSummary" >> beam.Map(_write_lines, folder / _SUMMARY)
        )
    entries = [
        json.loads(line) for line in (folder / _SUMMARY).read_text(encoding="utf-8").splitlines()
    ]
    (folder / _SUMMARY).unlink()
    if failures := sorted(entry for entry in entries if isinstance(entry, str)):
        raise DataError("\n".join(failures))
    return sorted(Written(**entry) for entry in entries)


def _write_lines(lines: list[str], path: Path) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _check_splits(split: SplitConfig, examples: dict[str, int]) -> None:
    advice = {
        "hash": "Add data, or raise ingest.split.{name}.",
        "column": f"Check the column '{split.column}' and ingest.split.values.",
        "time": "Check ingest.split.eval_from and test_from, or its shares.",
    }[split.by]
    for name, count in examples.items():
        if not count:
            raise DataError(
                f"ingest: split '{name}' is empty: none of {sum(examples.values()):,} rows fell "
                f"into it. {advice.format(name=name)}"
            )
