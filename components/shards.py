"""TFRecord shards that are missing, empty, truncated or corrupt: found, and named."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from components.tfrecord_shards import compression_type
from contract.errors import DataError

_BLOCK_BYTES = 1 << 20
_ADVICE = "clear the step that writes it in Airflow, or start a new run"


def check_shards(shards: Sequence[Path]) -> None:
    """Refuse shards that are missing or have no bytes (a gzip of nothing still has some).

    Raises:
        DataError: That names the first such file.
    """
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"{shard}: no such shard; {_ADVICE}")
        if shard.stat().st_size == 0:
            raise DataError(f"{shard}: empty, 0 bytes; {_ADVICE}")


def broken_shard(shards: Sequence[Path]) -> str:
    """Read every shard by itself; return what is wrong with the first broken one, or `""`."""
    for shard in shards:
        is_gzip = compression_type(shard) == "GZIP"
        if problem := (_gzip_problem(shard) if is_gzip else "") or _record_problem(shard):
            return f"{shard}: {problem}; {_ADVICE}"
    return ""


def _gzip_problem(shard: Path) -> str:
    """Find what TensorFlow does not: it takes a gzip cut off between two records for whole."""
    try:
        with gzip.open(shard) as file:
            while file.read(_BLOCK_BYTES):
                pass
    except EOFError:
        return "truncated, its gzip stream has no end"
    except (gzip.BadGzipFile, zlib.error) as error:
        return f"corrupt, not whole gzip ({error})"
    except OSError as error:
        return f"not readable ({error.strerror})"
    return ""


def _record_problem(shard: Path) -> str:
    try:
        for _ in tf.data.TFRecordDataset(str(shard), compression_type(shard)).batch(4096):
            pass
    except tf.errors.DataLossError:
        return "corrupt, a record is cut off or does not match its checksum"
    return ""
