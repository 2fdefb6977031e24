"""TFRecord shards: writing them, their names, and what a name says of how to read."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from contract.schema.data import Compression

_SUFFIXES: dict[Compression, str] = {"gzip": ".tfrecord.gz", "none": ".tfrecord"}
_OPTIONS = {"gzip": "GZIP", "none": ""}


def write_shard(path: Path, examples: Iterable[bytes], compression: Compression = "gzip") -> None:
    """Write serialized examples as a TFRecord file, to the same bytes every time."""
    import tensorflow as tf

    # Level 1 takes a third of the default's time for about a tenth more bytes.
    level = 1 if compression == "gzip" else None
    options = tf.io.TFRecordOptions(_OPTIONS[compression], compression_level=level)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for example in examples:
            writer.write(example)


def name_shards(
    folder: Path, split: str, written: Sequence[str], compression: Compression = "gzip"
) -> tuple[str, ...]:
    """Give the shards of a split their final names, in the order given, and return these."""
    suffix = _SUFFIXES[compression]
    names = tuple(
        f"{split}-{number:05d}-of-{len(written):05d}{suffix}" for number in range(len(written))
    )
    for old, new in zip(written, names, strict=True):
        (folder / old).rename(folder / new)
    return names


def compression_type(shard: Path) -> str:
    """Return what TensorFlow calls the compression of a shard that has its final name."""
    return "GZIP" if shard.name.endswith(_SUFFIXES["gzip"]) else ""
