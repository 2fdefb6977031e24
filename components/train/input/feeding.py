"""Training batches: each example once per epoch, for any number of readers, also after a resume.

The order of examples depends on the seed and the epoch alone. Every worker takes its share of each
global batch; so a training of three workers learns from the same batches as one of a single
process, and continues after a failure with exactly the examples that would have come next.

Epochs follow each other without a seam: a batch that begins with the last examples of one is filled
with the first of the next.

Where all examples fit the memory they are parsed once, and each epoch is one permutation of them.
Otherwise an epoch is a permutation of the shards, cut into lanes of equal numbers of examples; a
lane is shuffled through a buffer, and each batch takes the same number from every lane. Lanes are
what workers divide among themselves, and what is read in parallel.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from components.data.examples import (
    Batch,
    Columns,
    ExampleSource,
    as_batch,
    is_slice,
    load_columns,
    number_of_rows,
    parser,
    sample_columns,
)
from components.data.shards import broken_shard
from components.train.input.free_memory import free_bytes
from contract.errors import DataError, UserError
from contract.schema.training import TrainConfig

MOST_LANES = 64  # each is an open file and a shuffle buffer

log = logging.getLogger("slipway")


class Position(NamedTuple):
    """How far training has read: whole epochs, and examples of the one begun."""

    epoch: int = 0
    examples: int = 0

    def after(self, steps: int, batch_size: int, examples: int) -> "Position":
        """Return the position `steps` batches later, of a training with this many examples."""
        epochs, rest = divmod(self.examples + steps * batch_size, examples)
        return Position(self.epoch + epochs, rest)


BEGINNING = Position()


@dataclass(frozen=True)
class Order:
    """Which batches one worker reads, from a position on.

    Attributes:
        batch_size: Of the global batch.
        seed: Decides the order.
        position: Where to begin.
        lanes: Into which each epoch is cut; 0: all examples are in memory.
        shuffle_examples: In the shuffle buffers of all lanes together.
        worker: Which of the `workers` reads; each takes its share of every batch.
    """

    batch_size: int
    seed: int
    position: Position = BEGINNING
    lanes: int = 0
    shuffle_examples: int = 20_000
    worker: int = 0
    workers: int = 1

    @property
    def share(self) -> slice:
        """The rows of a global batch, or the lanes, that are this worker's."""
        whole = self.lanes or self.batch_size
        return slice(whole * self.worker // self.workers, whole * (self.worker + 1) // self.workers)


@dataclass(frozen=True)
class Feed:
    """Batches that are not yet read: what to read, in order, and how."""

    handles: tf.data.Dataset
    read: Callable[[Any], Batch]

    def batches(self) -> tf.data.Dataset:
        """Return the batches, read ahead in parallel."""
        read = self.handles.map(self.read, num_parallel_calls=tf.data.AUTOTUNE)
        return read.prefetch(tf.data.AUTOTUNE)

    def chosen(self) -> "ChosenBatches":
        """Return batches by their number."""
        return ChosenBatches(self)


class ChosenBatches:
    """Batches by number, from 0; cheap while the numbers rise, because others are not parsed."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._next = 0
        self._iterator: Iterator[Any] = iter(feed.handles)
        self._read = tf.function(feed.read, autograph=False, reduce_retracing=True)

    def read(self, number: int) -> Batch:
        """Return one batch; one that has gone by is looked for from the beginning."""
        if number < self._next:
            self._iterator, self._next = iter(self._feed.handles), 0
        while True:
            handle = next(self._iterator)
            self._next += 1
            if self._next > number:
                return self._read(handle)  # type: ignore[no-any-return]


def fits_memory(source: ExampleSource, memory_ratio: float) -> bool:
    """Estimate from the first examples whether all of them, parsed, take less than that share of
    the free memory: of this machine, or of the container if that has less.
    """
    sample = sample_columns(_without_slices(source))
    if not sample:
        return True  # loading says what is wrong
    flat = [c.flat_values if isinstance(c, tf.RaggedTensor) else c for c in sample.values()]
    needed = sum(map(_bytes, flat)) / number_of_rows(sample) * source.examples
    return bool(needed <= free_bytes() * memory_ratio)


def plan_lanes(batch_size: int, shards: int, workers: int) -> int:
    """Return into how many lanes to cut an epoch: a divisor of the batch, at least one a worker.

    As many as there are shards, so that hardly any is read by two.
    """
    divisors = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
    wanted = min(max(shards, workers), MOST_LANES)
    fitting = [n for n in divisors if workers <= n <= wanted]
    return fitting[-1] if fitting else next(n for n in divisors if n >= workers)


def continued_order(
    config: TrainConfig, source: ExampleSource, position: Position, lanes: int
) -> Order:
    """Return the order in which a resumed training continues within its epoch.

    Raises:
        UserError: If batch size or number of workers have changed so that it cannot be found.
    """
    size = min(config.batch_size, source.examples)
    workers = config.sharers
    if lanes and not position.examples and (size % lanes or workers > lanes):
        lanes = plan_lanes(size, len(source.shards), workers)
    elif lanes and (size % lanes or workers > lanes):
        raise UserError(
            f"train: the checkpoint was written in mid-epoch with the examples read in {lanes} "
            f"lanes, which {workers} workers with batches of {size} cannot divide: some examples "
            "would come twice; choose at most that many workers and a multiple as "
            "train.batch_size, "
            "or start a new run"
        )
    return Order(
        batch_size=size,
        seed=config.seed,
        position=position,
        lanes=lanes,
        shuffle_examples=config.shuffle_examples,
    )


def open_feed(source: ExampleSource, order: Order) -> Feed:
    """Return one worker's batches, endless, from the order's position on.

    Raises:
        DataError: If a shard is truncated or corrupt, or there are not as many examples as
            `transform` counted. A shard that breaks while it is streamed raises TensorFlow's error
            in the reader's hands: see `components.data.examples.explain`.
    """
    source = _without_slices(source)
    if order.lanes:
        return Feed(_from_shards(source, order), _reader(source))
    columns = load_columns(source)
    return Feed(_from_memory(columns, order), _gatherer(columns))


def count_examples(source: ExampleSource) -> tuple[int, ...]:
    """Return the number of examples in each shard, by reading them all once."""

    def count(shard: tf.Tensor) -> tf.Tensor:
        return source.records(shard).reduce(tf.constant(0, tf.int64), lambda total, _: total + 1)

    counts = tf.data.Dataset.from_tensor_slices([str(shard) for shard in source.shards]).map(
        count, num_parallel_calls=tf.data.AUTOTUNE
    )
    try:
        return tuple(int(count) for count in counts)
    except tf.errors.OpError as error:
        raise DataError(broken_shard(source.shards) or str(error.message)) from error


# --- the two ways to read epochs ----------------------------------------------------------------


def _from_memory(columns: Columns, order: Order) -> tf.data.Dataset:
    rows = number_of_rows(columns)
    epochs = tf.data.Dataset.counter(start=order.position.epoch)
    shuffled = epochs.map(lambda e: _permutation(rows, order.seed, e)[_were_read(order, e) :])
    batches = shuffled.rebatch(order.batch_size, drop_remainder=True)
    return batches.map(lambda batch: batch[order.share])


def _gatherer(columns: Columns) -> Callable[[Any], Batch]:
    def gather(rows: tf.Tensor) -> Batch:
        with tf.device("CPU"):
            return as_batch({name: tf.gather(column, rows) for name, column in columns.items()})

    return gather


def _from_shards(source: ExampleSource, order: Order) -> tf.data.Dataset:
    names = tf.constant([str(shard) for shard in source.shards])
    counts = tf.constant(_checked_counts(source), tf.int64)
    lanes = range(order.lanes)[order.share]
    rows = order.batch_size // order.lanes

    def part(epoch: tf.Tensor, lane: tf.Tensor) -> tf.data.Dataset:
        """Return what a lane reads in one epoch."""
        sizes = lane_sizes(source.examples, order.lanes, epoch * source.examples)
        start = tf.reduce_sum(sizes[:lane])
        shards = _permutation(len(source.shards), order.seed, epoch)
        ends = tf.cumsum(tf.gather(counts, shards))
        shard = tf.searchsorted(ends, [start], side="right")[0]
        before = tf.where(shard > 0, tf.gather(ends, tf.maximum(shard - 1, 0)), 0)
        whole = source.records(tf.gather(names, shards)[shard:]).skip(start - before)
        seed = epoch * order.lanes + lane + order.seed
        buffer = max(1, order.shuffle_examples // order.lanes)
        shuffled = whole.take(sizes[lane]).shuffle(buffer, seed=seed)
        were_read = lane_sizes(_were_read(order, epoch), order.lanes, epoch * source.examples)
        return shuffled.skip(were_read[lane])

    def batches(lane: tf.Tensor) -> tf.data.Dataset:
        epochs = tf.data.Dataset.counter(start=order.position.epoch)
        examples = epochs.flat_map(lambda epoch: part(epoch, lane))
        return examples.batch(rows, drop_remainder=True)  # here: each element's way is dear

    numbers = tf.data.Dataset.range(lanes.start, lanes.stop)
    mixed = numbers.interleave(
        batches, cycle_length=len(lanes), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return mixed.batch(len(lanes), drop_remainder=True)


def lane_sizes(examples: Any, lanes: int, before: Any = 0) -> tf.Tensor:
    """Return how many of some examples in a row each lane has, int64 `[lanes]`.

    All examples of a training are dealt out to the lanes in turn, epoch after epoch, so that a lane
    has the same number in every batch, wherever epochs end; `before` were dealt out already.
    """
    turn = (tf.range(lanes, dtype=tf.int64) - before) % lanes
    return (examples - turn + lanes - 1) // lanes


def _were_read(order: Order, epoch: tf.Tensor) -> tf.Tensor:
    """Return how many examples of an epoch lie before the order's position."""
    is_first = epoch == order.position.epoch
    return tf.where(is_first, tf.constant(order.position.examples, tf.int64), 0)


def _reader(source: ExampleSource) -> Callable[[Any], Batch]:
    parse = parser(source.spec)
    return lambda of_lanes: as_batch(parse(tf.reshape(of_lanes, [of_lanes.shape.num_elements()])))


def _checked_counts(source: ExampleSource) -> tuple[int, ...]:
    counts = count_examples(source)
    if sum(counts) != source.examples:
        raise DataError(
            broken_shard(source.shards)
            or f"{source.shards[0].parent}: found {sum(counts)} examples, expected "
            f"{source.examples}; run 'transform' again"
        )
    return counts


def _permutation(count: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    both = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed=both)


def _without_slices(source: ExampleSource) -> ExampleSource:
    return replace(source, spec={n: one for n, one in source.spec.items() if not is_slice(n)})


def _bytes(column: tf.Tensor) -> int:
    if column.dtype == tf.string:
        return int(tf.reduce_sum(tf.strings.length(column))) + 24 * int(tf.size(column))
    return int(tf.size(column)) * int(column.dtype.size)
