"""Arrays to the JSON of TensorFlow Serving."""

import json

import numpy as np

from contract.model_io import output_names
from contract.schema.data import HeadConfig
from serving.server.core.predictions import classify, predict_columns, predict_rows

CLASSES = HeadConfig(task="binary_classification", classes=("no", "yes"))
PRICE = HeadConfig(task="regression")


def test_one_output_has_no_name():
    assert json.loads(predict_rows({"y": np.array([[1, 2], [3, 4]])})) == {
        "predictions": [[1, 2], [3, 4]]
    }


def test_float32_is_written_shortest_and_read_back_equal():
    values = np.array([0.1, 1 / 3, 1e-30], np.float32)
    body = predict_rows({"y": values})
    assert b"0.1," in body
    assert np.array_equal(np.array(json.loads(body)["predictions"], np.float32), values)


def test_bytes_are_text_or_base64_by_name_or_need():
    outputs = {
        "word": np.array([b"caf\xc3\xa9", b"\xff"], object),
        "image_bytes": np.array([b"a", b"b"], object),
    }
    assert json.loads(predict_rows(outputs))["predictions"] == [
        {"word": "café", "image_bytes": {"b64": "YQ=="}},
        {"word": {"b64": "/w=="}, "image_bytes": {"b64": "Yg=="}},
    ]


def test_a_row_slice_of_a_transposed_array_is_written_right():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert json.loads(predict_columns({"y": array}))["outputs"] == [[0, 3], [1, 4], [2, 5]]


def test_classify_pairs_labels_with_scores():
    assert json.loads(classify(np.array([[0.25, 0.75]]), CLASSES)) == {
        "results": [[["no", 0.25], ["yes", 0.75]]]
    }


def test_output_names_carry_the_head_only_where_there_are_several():
    assert output_names({"a": CLASSES}) == {"a": "scores"}
    assert output_names({"a": PRICE}) == {"a": "value"}
    assert output_names({"a": CLASSES, "b": PRICE}) == {"a": "a_scores", "b": "b_value"}
