"""Reading transformed examples: what belongs together stays together, any width of list."""

import pytest
import tensorflow as tf

from components.data.examples import (
    as_batch,
    example_source,
    feature_spec,
    load_columns,
    model_inputs,
    slices_of,
)
from contract.errors import DataError


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
