"""Reading transformed examples: each once an epoch, the same order again, any width of list."""

import numpy as np
import pytest
import tensorflow as tf

from components.examples import (
    Order,
    as_batch,
    example_source,
    feature_spec,
    load_columns,
    model_inputs,
    slices_of,
    training_batches,
)
from contract.errors import DataError

IN_MEMORY, STREAMED = 0.25, 0.0


def batches(made, take: int, **order: object) -> list[np.ndarray]:
    source = example_source(made.run, made.config, made.record, "train")
    dataset = training_batches(source, Order(**{"batch_size": 30, "seed": 5, **order}))
    return [batch.features["x"].numpy() for batch in dataset.take(take)]


def distinct(rows: list[np.ndarray]) -> set[bytes]:
    return {row.tobytes() for batch in rows for row in batch}


@pytest.mark.parametrize("memory_ratio", [IN_MEMORY, STREAMED])
def test_an_epoch_gives_no_example_twice(make_run, memory_ratio):
    made = make_run()  # 200 training examples: 6 batches of 30 and 20 left out
    first = batches(made, 6, memory_ratio=memory_ratio)
    assert [len(batch) for batch in first] == [30] * 6
    assert len(distinct(first)) == 180


@pytest.mark.parametrize("memory_ratio", [IN_MEMORY, STREAMED])
def test_epochs_differ_and_together_leave_no_example_out(make_run, memory_ratio):
    made = make_run()
    rows = batches(made, 60, memory_ratio=memory_ratio)
    assert len(distinct(rows)) == 200
    assert rows[0].tobytes() != rows[6].tobytes()


@pytest.mark.parametrize("memory_ratio", [IN_MEMORY, STREAMED])
@pytest.mark.parametrize("first_step", [1, 5, 6, 7, 13])
def test_reading_from_a_step_on_is_reading_all_and_forgetting_the_first(
    make_run, memory_ratio, first_step
):
    made = make_run()
    whole = batches(made, 16, memory_ratio=memory_ratio)
    rest = batches(made, 16 - first_step, memory_ratio=memory_ratio, first_step=first_step)
    for found, expected in zip(rest, whole[first_step:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_seed_is_another_order(make_run):
    made = make_run()
    assert batches(made, 1)[0].tobytes() != batches(made, 1, seed=6)[0].tobytes()


def test_a_batch_is_never_larger_than_the_split(make_run):
    made = make_run()
    assert [len(batch) for batch in batches(made, 2, batch_size=10_000)] == [200, 200]


def test_labels_weights_and_slices_stay_with_their_rows(make_run):
    made = make_run(overrides={"weight": "importance"}, rows=lambda _: WEIGHTED_ROWS)
    source = example_source(made.run, made.config, made.record, "eval")
    columns = load_columns(source)
    batch, slices = as_batch(columns), slices_of(columns)
    for x, label, weight, colour in zip(
        batch.features["x"].numpy(),
        batch.labels["kind"].numpy(),
        batch.weights.numpy(),
        slices["colour"].numpy(),
        strict=True,
    ):
        number = int(x[0])
        assert (label, weight, colour) == (number % 3, number / 2, f"c{number}".encode())


WEIGHTED_ROWS = [
    {
        "x": [float(number)] * 4,
        "label:kind": number % 3,
        "weight": number / 2,
        "example_id": str(number),
        "slice:colour": f"c{number}",
    }
    for number in range(12)
]


# --- variable length ----------------------------------------------------------------------------

SPECS = {
    "sparse": tf.io.VarLenFeature(tf.int64),
    "ragged": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("memory_ratio", [IN_MEMORY, STREAMED])
def test_lists_are_padded_with_0_to_the_longest_of_the_batch(make_run, kind, memory_ratio):
    lists = [[1, 2, 3], [4], [], [5, 6]]
    rows = [
        {"words": words, "label:kind": 0, "example_id": "i", "slice:colour": "c"} for words in lists
    ]
    made = make_run(spec={"words": SPECS[kind]}, rows=lambda _: rows)
    source = example_source(made.run, made.config, made.record, "train")
    order = Order(batch_size=4, seed=1, memory_ratio=memory_ratio)
    batch = next(iter(training_batches(source, order))).features["words"].numpy()
    assert batch.shape == (4, 3)
    assert sorted(batch.tolist()) == [[0, 0, 0], [1, 2, 3], [4, 0, 0], [5, 6, 0]]


def test_sparse_and_ragged_become_the_same_dense_tensor():
    ragged = tf.ragged.constant([["a", "b"], [], ["c"]])
    found = model_inputs({"ragged": ragged, "sparse": ragged.to_sparse(), "dense": tf.ones([3])})
    expected = [[b"a", b"b"], [b"", b""], [b"c", b""]]
    assert found["ragged"].numpy().tolist() == found["sparse"].numpy().tolist() == expected
    assert found["dense"].numpy().tolist() == [1.0, 1.0, 1.0]


def test_a_batch_of_empty_lists_is_one_wide():
    empty = tf.RaggedTensor.from_row_lengths(tf.constant([], tf.int64), [0, 0])
    assert model_inputs({"words": empty})["words"].numpy().tolist() == [[0], [0]]


def test_missing_transform_graph_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="not a transform graph"):
        feature_spec(tmp_path)
