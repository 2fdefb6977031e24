"""The features of all rows as digests, to find rows that are in more than one split."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.data.raw_columns import ID
from components.data.raw_rows import content_digests
from components.data.raw_values import Flat
from contract.schema.data import SPLITS
from contract.schema.pipeline import PipelineConfig

Heads = npt.NDArray[np.uint64]
_HEAD_DIGITS = 16  # of a digest: its first eight bytes


@dataclass
class Contents:
    """The features of all rows by split, as the first eight bytes of their digests.

    `is_needed` is False where the split is by a hash of these digests: equal rows are in one split.
    """

    is_needed: bool
    has_ids: bool
    features: tuple[str, ...]
    held: dict[str, list[Heads]] = field(default_factory=lambda: {name: [] for name in SPLITS})

    @classmethod
    def of(cls, config: PipelineConfig) -> "Contents":
        """Return an empty collection for a pipeline."""
        ingest = config.ingest
        split = ingest.split
        is_by_content = split.by == "hash" and split.key is None and split.group is None
        is_needed = not is_by_content or ingest.test_source is not None
        return cls(is_needed, split.key is None, tuple(config.features))

    def add(self, split: str, batch: pa.RecordBatch) -> None:
        """Take in rows as `read_arrow` yields them."""
        if not self.is_needed or not batch.num_rows:
            return
        if self.has_ids:  # without a key, the id is the digest of all features
            ids = batch[ID].flatten().cast(pa.binary()).to_pylist()
            digits = b"".join(one[:_HEAD_DIGITS] for one in ids)
            raw = bytes.fromhex(digits.decode())
        else:
            columns = {name: _flat(batch[name]) for name in self.features}
            raw = b"".join(one[:8] for one in content_digests(columns, batch.num_rows))
        self.held[split].append(np.frombuffer(raw, np.uint64))

    def repeated(self) -> dict[str, int]:
        """Return how many rows of eval and test have the features of a row of an earlier split."""
        if not self.is_needed:
            return {}
        found = {}
        earlier = np.empty(0, np.uint64)
        for split in SPLITS:
            rows = np.concatenate([*self.held[split], np.empty(0, np.uint64)])
            if split != "train":
                found[split] = int(np.isin(rows, earlier).sum())
            earlier = np.union1d(earlier, rows)
        return found


# --- inside -------------------------------------------------------------------------------------


def _flat(column: pa.Array) -> Flat:
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.flatten()
    is_bytes = pa.types.is_large_binary(values.type)
    return Flat(lengths, values.cast(pa.binary()) if is_bytes else values)
