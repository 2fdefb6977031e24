"""Training batches: each example once an epoch, whoever reads, wherever reading begins."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.examples import ExampleSource, example_source
from components.data.tfrecord_shards import name_shards, write_shard
from components.train.input.feeding import (
    Order,
    Position,
    continued_order,
    count_examples,
    fits_memory,
    lane_sizes,
    open_feed,
    plan_lanes,
)
from contract.errors import DataError, UserError
from contract.schema.data import Compression
from contract.schema.training import TrainConfig

IN_MEMORY, STREAMED = 0, 2  # lanes

NUMBER = {
    "label:kind": tf.io.FixedLenFeature([], tf.int64),
    "n": tf.io.FixedLenFeature([], tf.int64),
}


def batches(made, take: int, **order: Any) -> list[np.ndarray]:
    source = example_source(made.run, made.config, made.record, "train")
    feed = open_feed(source, Order(**{"batch_size": 30, "seed": 5, **order}))
    return [batch.features["x"].numpy() for batch in feed.batches().take(take)]


def distinct(rows: list[np.ndarray]) -> set[bytes]:
    return {row.tobytes() for batch in rows for row in batch}


@pytest.fixture(scope="module")
def made(module_make_run):
    return module_make_run()


@pytest.mark.parametrize("lanes", [IN_MEMORY, STREAMED])
def test_epochs_differ_and_each_gives_every_example_once(made, lanes):
    rows = batches(made, 20, lanes=lanes)  # 200 training examples: 20 batches are 3 epochs
    assert [len(batch) for batch in rows] == [30] * 20
    assert rows[0].tobytes() != rows[7].tobytes()
    everything = [row.tobytes() for batch in rows for row in batch]
    assert Counter(everything) == dict.fromkeys(everything, 3)


@pytest.mark.parametrize("lanes", [IN_MEMORY, STREAMED])
@pytest.mark.parametrize("first_step", [1, 6, 7, 13])
def test_reading_from_a_step_on_is_reading_all_and_forgetting_the_first(made, lanes, first_step):
    position = Position().after(first_step, 30, 200)
    whole = batches(made, 16, lanes=lanes)
    rest = batches(made, 16 - first_step, lanes=lanes, position=position)
    for found, expected in zip(rest, whole[first_step:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_batch_size_in_mid_epoch_neither_skips_nor_repeats(made):
    before = batches(made, 2)  # 60 examples of the first epoch
    after = batches(made, 7, batch_size=20, position=Position(0, 60))  # the other 140
    assert len(distinct(before) | distinct(after)) == 200


@pytest.mark.parametrize("lanes", [IN_MEMORY, STREAMED])
def test_batches_by_number_are_those_in_turn(made, lanes):
    source = example_source(made.run, made.config, made.record, "train")
    order = Order(batch_size=30, seed=5, lanes=lanes)
    chosen = open_feed(source, order).chosen()
    in_turn = batches(made, 8, lanes=lanes)
    for number in (0, 1, 4, 7, 2):
        np.testing.assert_array_equal(chosen.read(number).features["x"].numpy(), in_turn[number])


def test_another_seed_is_another_order(made):
    assert batches(made, 1)[0].tobytes() != batches(made, 1, seed=6)[0].tobytes()


def test_position_after_goes_through_the_ends_of_epochs():
    # 10 examples in batches of 4: the third batch is two of each epoch
    found = [Position().after(steps, 4, 10) for steps in range(6)]
    assert found == [(0, 0), (0, 4), (0, 8), (1, 2), (1, 6), (2, 0)]
    assert Position(3, 2).after(3, 4, 10) == (4, 4)


# --- divided among workers ----------------------------------------------------------------------


def numbered_shards(
    folder: Path, sizes: list[int], compression: Compression = "gzip"
) -> ExampleSource:
    """Write shards of the sizes given; feature `n` numbers the examples through."""
    folder.mkdir(parents=True, exist_ok=True)
    written, first = [], 0
    for place, size in enumerate(sizes):
        write_shard(
            folder / str(place), [_numbered(n) for n in range(first, first + size)], compression
        )
        written.append(str(place))
        first += size
    names = name_shards(folder, "train", written, compression)
    return ExampleSource(tuple(folder / name for name in names), NUMBER, first)


def _numbered(number: int) -> bytes:
    value = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    features = tf.train.Features(feature={"n": value, "label:kind": value})
    return tf.train.Example(features=features).SerializeToString()


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    workers=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    per_worker=st.integers(1, 2),
    is_streamed=st.booleans(),
    compression=st.sampled_from(["gzip", "none"]),
    resume_after=st.integers(0, 4),
)
def test_epochs_have_each_example_once_whoever_reads_and_whoever_resumes(
    tmp_path, sizes, workers, per_worker, is_streamed, compression, resume_after
):
    size = max(workers) * per_worker
    if sum(sizes) < size:
        sizes = [*sizes, size]
    source = numbered_shards(tmp_path / "shards", sizes, compression)
    lanes = plan_lanes(size, len(sizes), max(workers)) if is_streamed else 0
    steps = max(2 * source.examples // size + 1, resume_after)  # beyond the ends of two epochs
    position = Position().after(resume_after, size, source.examples)
    before, after = Order(size, 3, lanes=lanes), Order(size, 3, position, lanes)
    read = read_by(workers[0], source, before, resume_after)
    read += read_by(workers[1], source, after, steps - resume_after)
    seen: Counter[int] = Counter(dict.fromkeys(range(source.examples), 0))
    for number, batch in enumerate(read, start=1):
        seen.update(batch)
        epochs = number * size // source.examples
        assert set(seen.values()) <= {epochs, epochs + 1}
    # and each step's batch is what one process alone would have read
    alone = read_numbers(source, before, steps)
    assert [sorted(batch) for batch in read] == [sorted(batch) for batch in alone]


def read_by(workers: int, source: ExampleSource, order: Order, take: int) -> list[list[int]]:
    """Return what several workers read together, by step."""
    shares = [
        read_numbers(source, replace(order, worker=worker, workers=workers), take)
        for worker in range(workers)
    ]
    return [[number for share in step for number in share] for step in zip(*shares, strict=True)]


def read_numbers(source: ExampleSource, order: Order, take: int) -> list[list[int]]:
    dataset = open_feed(source, order).batches().take(take)
    return [batch.features["n"].numpy().tolist() for batch in dataset]


def test_lanes_divide_the_batch_and_are_as_many_as_the_shards():
    assert plan_lanes(batch_size=64, shards=10, workers=2) == 8
    assert plan_lanes(batch_size=64, shards=1, workers=3) == 4
    assert plan_lanes(batch_size=7, shards=3, workers=2) == 7
    assert plan_lanes(batch_size=4096, shards=1000, workers=2) == 64
    assert lane_sizes(11, 4).numpy().tolist() == [3, 3, 3, 2]
    assert lane_sizes(11, 4, 11).numpy().tolist() == [3, 3, 2, 3]  # the next epoch
    assert lane_sizes(2, 4, 11).numpy().tolist() == [1, 0, 0, 1]


def test_examples_are_kept_parsed_if_they_fit_the_share_of_the_free_memory(tmp_path, monkeypatch):
    source = numbered_shards(tmp_path, [3, 5])  # 8 examples of two int64: 128 bytes
    for free, is_fitting in ((4 * 128, True), (4 * 128 - 1, False)):
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        assert fits_memory(source, 0.25) == is_fitting


def test_examples_are_counted_by_shard(tmp_path):
    assert count_examples(numbered_shards(tmp_path, [3, 0, 5])) == (3, 0, 5)


def test_fewer_streamed_examples_than_transform_counted_are_refused(tmp_path):
    source = numbered_shards(tmp_path, [3, 5])
    with pytest.raises(DataError, match="found 8 examples, expected 9"):
        open_feed(ExampleSource(source.shards, NUMBER, 9), Order(4, 1, lanes=2))


@pytest.mark.parametrize("lanes", [IN_MEMORY, STREAMED])
@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (lambda content: content[:-1], "00001-of-00002.tfrecord: corrupt, a record is cut off"),
        (lambda content: content[: -len(content) // 5], "found 7 examples, expected 8"),
        (lambda content: content[:20] + b"!" + content[21:], "corrupt, a record .* its checksum"),
    ],
)
def test_damage_of_a_shard_without_compression_is_noticed(tmp_path, kept, message, lanes):
    source = numbered_shards(tmp_path, [3, 5], "none")
    broken = source.shards[1]
    broken.write_bytes(kept(broken.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_feed(source, Order(4, 1, lanes=lanes))


def test_more_workers_than_lanes_in_mid_epoch_are_refused(tmp_path):
    source = numbered_shards(tmp_path, [6, 6])
    config = TrainConfig(strategy="multi_worker", workers=3, batch_size=6)
    with pytest.raises(UserError, match="read in 2 lanes, which 3 workers .* cannot divide"):
        continued_order(config, source, Position(0, 6), lanes=2)
    assert continued_order(config, source, Position(0, 6), lanes=3).lanes == 3
    assert continued_order(config, source, Position(1, 0), lanes=2).lanes == 3


# --- variable length ----------------------------------------------------------------------------

SPECS = {
    "sparse": tf.io.VarLenFeature(tf.int64),
    "ragged": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("lanes", [IN_MEMORY, STREAMED])
def test_lists_are_padded_with_0_to_the_longest_of_the_batch(make_run, kind, lanes):
    lists = [[1, 2, 3], [4], [], [5, 6]]
    rows = [
        {"words": words, "label:kind": 0, "example_id": "i", "slice:colour": "c"} for words in lists
    ]
    made = make_run(spec={"words": SPECS[kind]}, rows=lambda _: rows)
    source = example_source(made.run, made.config, made.record, "train")
    order = Order(batch_size=4, seed=1, lanes=lanes)
    batch = next(iter(open_feed(source, order).batches())).features["words"].numpy()
    assert batch.shape == (4, 3)
    assert sorted(batch.tolist()) == [[0, 0, 0], [1, 2, 3], [4, 0, 0], [5, 6, 0]]
