"""TFRecord shards that are missing, empty, truncated or corrupt: found, and named."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.data.tfrecord_shards import BrokenRecordError, compression_of, read_records
from contract.errors import DataError
from contract.schema.data import Compression

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


def read_shard(shard: Path, compression: Compression | None = None) -> Iterator[bytes]:
    """Yield the records of a shard; its compression is that of its name, if none is given.

    Raises:
        DataError: If it is truncated, corrupt or not readable; it names the shard.
    """
    try:
        yield from read_records(shard, compression or compression_of(shard))
    except EOFError as error:
        raise _broken(shard, "truncated, its gzip stream has no end") from error
    except BrokenRecordError as error:
        problem = "corrupt, a record is cut off or does not match its checksum"
        raise _broken(shard, problem) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _broken(shard, f"corrupt, not whole gzip ({error})") from error
    except OSError as error:
        raise _broken(shard, f"not readable ({error.strerror})") from error


def broken_shard(shards: Sequence[Path]) -> str:
    """Read every shard by itself; return what is wrong with the first broken one, or `""`.

    It finds what TensorFlow does not: that takes a gzip cut off between two records for whole.
    """
    for shard in shards:
        try:
            for _ in read_shard(shard):
                pass
        except DataError as error:
            return str(error)
    return ""


def _broken(shard: Path, problem: str) -> DataError:
    return DataError(f"{shard}: {problem}; {_ADVICE}")
