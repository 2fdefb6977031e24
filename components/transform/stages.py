"""The Beam stages around tf.Transform: raw record batches in, transformed shards out."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from components.data.raw_columns import ID
from components.data.raw_examples import encode, read_arrow
from components.data.tfrecord_shards import write_shard
from components.transform.raw_tensors import BYTES_LISTS, SPLIT
from contract.model_io import slice_key
from contract.schema.data import FeatureConfig, TransformConfig
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")

_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, order=True)
class Shard:
    """A shard that a worker wrote. Shards are put in order by the id of their first row."""

    split: str
    first_id: str
    path: str
    rows: int


class ReadShard(beam.DoFn):  # type: ignore[misc]
    """Reads a raw shard of a split as record batches, with columns for slices and the split."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config

    def process(self, shard: tuple[str, Path]) -> Iterator[pa.RecordBatch]:
        split, path = shard
        for batch in read_arrow([path], self._config):
            batch = add_slices(batch, self._config)
            name = pa.array([[split.encode()]] * batch.num_rows, BYTES_LISTS)
            yield batch.append_column(SPLIT, name)


class WriteShards(beam.DoFn):  # type: ignore[misc]
    """Serializes transformed batches and gathers them to shards of the target size by split."""

    def __init__(self, folder: Path, config: TransformConfig) -> None:
        self._folder = folder
        self._compression = config.compression
        self._limit = config.shard_size_mb * 2**20

    def start_bundle(self) -> None:
        self._held: dict[str, list[bytes]] = defaultdict(list)
        self._sizes: Counter[str] = Counter()
        self._first_ids: dict[str, str] = {}
        self._rows = 0
        self._started = self._shown = time.monotonic()

    def process(
        self, element: tuple[pa.RecordBatch, Mapping[str, pa.Array]], metadata: Any
    ) -> Iterator[Shard]:
        batch, mismatched = element
        if mismatched:
            raise ValueError(
                "Cannot pass-through data: preprocessing_fn changed the number of rows"
            )
        if not batch.num_rows:
            return
        split = batch[SPLIT][0].as_py()[0].decode()
        self._first_ids.setdefault(split, batch[ID][0].as_py()[0].decode())
        place = batch.schema.get_field_index(SPLIT)
        examples = encode(batch.remove_column(place), metadata.schema)
        self._held[split] += examples
        self._sizes[split] += sum(map(len, examples))
        self._report(len(examples))
        if self._sizes[split] >= self._limit:
            yield self._flush(split)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for split in list(self._held):
            yield WindowedValue(self._flush(split), window.max_timestamp(), (window,))

    def _flush(self, split: str) -> Shard:
        examples, first_id = self._held.pop(split), self._first_ids.pop(split)
        del self._sizes[split]
        name = f"{split}-{first_id}"
        write_shard(self._folder / name, examples, self._compression)
        return Shard(split, first_id, name, len(examples))

    def _report(self, rows: int) -> None:
        self._rows += rows
        if (now := time.monotonic()) - self._shown > _PROGRESS_SECONDS:
            rate, self._shown = self._rows / (now - self._started), now
            log.info("transform: %d rows, %.0f rows/s", self._rows, rate)


def add_slices(batch: pa.RecordBatch, config: PipelineConfig) -> pa.RecordBatch:
    """Append each slice feature's value as text; a missing one is its default."""
    for name in config.evaluate.slices:
        text = _slice_text(batch[name], config.features[name])
        batch = batch.append_column(slice_key(name), text)
    return batch


def _slice_text(column: pa.Array, feature: FeatureConfig) -> pa.Array:
    """Return lists of one binary value each."""
    values = pc.list_element(pc.if_else(pc.equal(pc.list_value_length(column), 1), column, None), 0)
    text = values.cast(pa.large_binary()) if _is_binary(values) else values.cast(pa.large_string())
    default = "" if feature.default is None else str(feature.default)
    filled = pc.fill_null(text.cast(pa.large_binary()), default.encode())
    return pa.LargeListArray.from_arrays(pa.array(range(len(filled) + 1), pa.int64()), filled)


def _is_binary(values: pa.Array) -> bool:
    return bool(pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type))
