"""The Beam stages of ingestion: the work on batches of rows, in whatever workers there are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from components.ingest.batches import (
    Batch,
    BatchEncoder,
    EncodedBatch,
    ShardWriter,
    read_unit,
)
from components.ingest.units import Unit
from components.ingest.written import Written
from contract.errors import DataError

FAILED = "failed"


class ReadUnit(beam.DoFn):  # type: ignore[misc]
    """Reads the files of a unit; a broken file becomes a message in the output `failed`."""

    def process(self, unit: Unit) -> Iterator[Any]:
        try:
            yield from read_unit(unit)
        except DataError as error:
            yield beam.pvalue.TaggedOutput(FAILED, str(error))


class EncodeRows(beam.DoFn):  # type: ignore[misc]
    """Parses rows, chooses their split and serializes them, as `BatchEncoder` does."""

    def __init__(self, encoder: BatchEncoder) -> None:
        self._encoder = encoder

    def process(self, batch: Batch) -> Iterator[EncodedBatch]:
        yield self._encoder.encode(batch)


class WriteShards(beam.DoFn):  # type: ignore[misc]
    """Gathers examples to shards and bad rows to files, as `ShardWriter` does."""

    def __init__(self, folder: Path, shard_size_mb: float) -> None:
        self._folder = folder
        self._shard_size_mb = shard_size_mb

    def start_bundle(self) -> None:
        self._writer = ShardWriter(self._folder, self._shard_size_mb)

    def process(self, batch: EncodedBatch) -> Iterator[Written]:
        yield from self._writer.add(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for written in self._writer.finish():
            yield WindowedValue(written, window.max_timestamp(), (window,))
