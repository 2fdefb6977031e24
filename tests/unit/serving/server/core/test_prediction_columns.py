"""Every kind of output and input comes back from a file as it was answered or sent."""

import math
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.prediction_log.files import LogFile
from contract.prediction_log.reading import predictions_of, read_file
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec, SignatureSpec, TensorSpec
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from serving.server.core.prediction_columns import Answer, PredictionColumns
from serving.server.requests.instances import InputReader

HOUR = datetime(2026, 11, 29, 15, tzinfo=UTC)
HEADS = {
    "digit": HeadConfig(task="multiclass_classification", classes=("a", "b", "c")),
    "price": HeadConfig(task="regression"),
}
SAMPLED = ServeConfig(prediction_log_inputs_ratio=1.0)
LEAVES = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "int64": st.integers(-(2**63) + 1, 2**63 - 1),
    "string": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
}
FORMS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "vector": {"shape": (2,)},
    "matrix": {"shape": (2, 3)},
    "ragged": {"is_variable_length": True},
}
SPECS = {
    f"{dtype}_{form}": InputSpec(dtype=dtype, **options)
    for dtype in ("float32", "int64", "string")
    for form, options in FORMS.items()
}


def answer(found, request_id=b"r", inputs=None, signature="serving_default") -> Answer:
    return Answer(request_id, b"stable", signature, HOUR.timestamp(), 0.5, found, inputs)


def outputs(*rows: tuple[list[float], float]) -> dict[str, np.ndarray]:
    scores = np.array([scores for scores, _ in rows], np.float32)
    return {"digit_scores": scores, "price_value": np.array([v for _, v in rows], np.float32)}


def written(columns: PredictionColumns, answers: list[Answer], folder: Path):
    """Return the records that a file of these answers has."""
    table = pa.Table.from_batches(columns.batches(answers), columns.schema)
    file = LogFile(HOUR, "host-1-a", 0, len(table), folder)
    write_rows(file, table)
    read = read_file(file)
    assert read is not None
    assert read.schema.equals(columns.schema, check_metadata=True)
    return [*predictions_of(read)]


def value_of(spec: InputSpec) -> st.SearchStrategy:
    found = LEAVES[spec.dtype]
    if spec.is_variable_length:
        return st.lists(found, max_size=4)
    for size in reversed(spec.shape):
        found = st.lists(found, min_size=size, max_size=size)
    return found


@st.composite
def requests(draw) -> list[list[dict]]:
    """Rows of some requests, as callers send them."""
    row = st.fixed_dictionaries({name: value_of(spec) for name, spec in SPECS.items()})
    return draw(st.lists(st.lists(row, min_size=1, max_size=3), min_size=1, max_size=3))


def as_logged(value):
    if isinstance(value, list):
        return [as_logged(item) for item in value]
    return value.encode() if isinstance(value, str) else value


@settings(max_examples=40, deadline=None)
@given(rows=requests(), data=st.data())
def test_inputs_of_every_type_and_shape_come_back_as_they_were_sent(rows, data, manifest):
    columns = PredictionColumns(manifest(inputs=SPECS, heads=HEADS, serve=SAMPLED))
    reader, answers = InputReader(SPECS), []
    for number, own in enumerate(rows):
        is_sampled = data.draw(st.booleans())
        found = outputs(*[([0.0, 1.0, 0.0], 1.0)] * len(own))
        inputs = reader.read_rows(own) if is_sampled else None
        answers.append(answer(found, b"%d" % number, inputs))
    with TemporaryDirectory() as folder:
        records = written(columns, answers, Path(folder))
    expected = [
        (str(number), place, as_logged_row(row) if answers[number].inputs is not None else None)
        for number, own in enumerate(rows)
        for place, row in enumerate(own)
    ]
    assert [(one.request_id, one.row, one.inputs) for one in records] == expected


def as_logged_row(row: dict) -> dict:
    return {name: as_logged(value) for name, value in row.items()}


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.lists(
            st.tuples(
                st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
                st.floats(allow_nan=False, allow_infinity=False),
            ),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    ),
    dtype=st.sampled_from(["float32", "float64", "float16"]),
)
def test_outputs_come_back_with_their_class_and_confidence(requests, dtype, manifest):
    found = []
    for rows in requests:
        with np.errstate(over="ignore"):
            made = {
                "digit_scores": np.array([scores for scores, _ in rows], dtype),
                "price_value": np.array([value for _, value in rows], dtype),
            }
        found.append(made)
    with TemporaryDirectory() as folder:
        columns = PredictionColumns(manifest(heads=HEADS))
        records = written(columns, [answer(made) for made in found], Path(folder))
    assert [one.row for one in records] == [
        place for rows in requests for place in range(len(rows))
    ]
    sent = [
        (scores.tolist(), float(value))
        for made in found
        for scores, value in zip(made["digit_scores"], made["price_value"], strict=True)
    ]
    for record, (scores, value) in zip(records, sent, strict=True):
        exact = [float(np.float32(score)) for score in scores]
        assert list(record.scores["digit"]) == exact
        assert record.confidence == {"digit": max(exact)}
        assert record.predicted["digit"] == scores.index(max(scores))
        assert record.predicted["price"] == value or math.isinf(value)


def test_a_refused_request_has_one_row_with_its_status_and_no_outputs(manifest, tmp_path):
    columns = PredictionColumns(manifest(heads=HEADS))
    found = [answer(400, b"bad", signature=""), answer(outputs(([0.0, 0.5, 0.25], 2.0)), b"good")]
    good, bad = sorted(written(columns, found, tmp_path), key=lambda one: one.status)
    assert (good.request_id, good.status, good.predicted) == (
        "good", 200, {"digit": 1, "price": 2.0},
    )  # fmt: skip
    assert (bad.request_id, bad.row, bad.status, bad.signature) == ("bad", 0, 400, "")
    assert (bad.predicted, bad.confidence, bad.scores, bad.inputs) == ({}, {}, {}, None)


def test_time_arm_latency_and_version_are_those_of_the_request(manifest, tmp_path):
    columns = PredictionColumns(manifest(heads=HEADS, version=12))
    moment = datetime(2026, 11, 29, 15, 4, 5, 678901, UTC)
    one = Answer(
        b"caf\xe9", b"shadow", "serving_default", moment.timestamp(), 0.125,
        outputs(([1.0, 0.0, 0.0], 0.0)),
    )  # fmt: skip
    (record,) = written(columns, [one], tmp_path)
    assert record.request_id == "café"
    assert (record.time, record.latency_seconds) == (moment, 0.125)
    assert (record.arm, record.version) == ("shadow", 12)


def test_a_signature_that_lacks_a_head_leaves_it_empty(manifest, tmp_path):
    columns = PredictionColumns(manifest(heads=HEADS))
    other = {"price_value": np.array([3.0], np.float32)}
    found = [answer(other, signature="prices"), answer(outputs(([0.0, 1.0, 0.0], 2.0)))]
    prices, both = sorted(written(columns, found, tmp_path), key=lambda one: one.signature)
    assert (prices.predicted, prices.confidence) == ({"price": 3.0}, {})
    assert both.predicted == {"digit": 1, "price": 2.0}


def test_examples_are_kept_as_they_were_sent(manifest, tmp_path):
    columns = PredictionColumns(manifest(inputs=SPECS, heads=HEADS, serve=SAMPLED))
    sent = {"examples": np.array([b"\x00\xff one", b"two"], object)}
    found = outputs(([0.0, 1.0, 0.0], 2.0), ([0.0, 1.0, 0.0], 2.0))
    records = written(columns, [answer(found, b"r", sent, "serving_examples")], tmp_path)
    assert [one.example for one in records] == [b"\x00\xff one", b"two"]
    assert [one.inputs for one in records] == [None, None]


def test_an_answer_weighs_what_its_outputs_numbers_and_text_hold():
    inputs = {"image": np.array([[b"x" * 1000], [b""]], object), "age": np.zeros(2, np.float32)}
    found = {"scores": np.zeros((2, 3), np.float32)}
    assert answer(400).size_bytes() == 0
    assert answer(found).size_bytes() == 2 * 3 * 4
    # Numbers of four bytes, two pointers of eight, and the text.
    assert answer(found, inputs=inputs).size_bytes() == 24 + 8 + (16 + 1000)


def test_without_sampling_there_are_no_columns_for_inputs(manifest):
    names = PredictionColumns(manifest(inputs=SPECS, heads=HEADS)).schema.names
    assert names == [
        *("time", "request_id", "row", "version", "arm", "signature", "status"),
        *("latency_seconds", "predicted:digit", "confidence:digit", "scores:digit"),
        "predicted:price",
    ]


def test_outputs_of_a_model_from_elsewhere_are_lists_whatever_their_shape(tmp_path, manifest):
    spec = {
        "mask": TensorSpec(dtype="bool", shape=None),
        "n": TensorSpec(dtype="uint8", shape=(None,)),
        "text": TensorSpec(dtype="string", shape=(None, None)),
    }
    of_numbers = {"n": TensorSpec(dtype="float32", shape=(None, 1))}
    signatures = {
        "a": SignatureSpec(method="predict", inputs={}, outputs=spec),
        "b": SignatureSpec(method="regress", inputs={}, outputs=of_numbers),
    }
    columns = PredictionColumns(manifest(heads={}, inputs={}, signatures=signatures))
    mask, text = np.array([[True, False], [False, True]]), np.empty((2, 1), object)
    text[:, 0] = [b"x", "y"]
    answers = [
        answer({"mask": mask, "n": np.array([1, 2], np.uint8), "text": text}, b"1", None, "a"),
        answer({"mask": mask.reshape(1, 4)}, b"2", None, "a"),
        answer({"mask": mask[:, :1, None]}, b"3", None, "a"),
        answer({"n": np.array([[0.5]], np.float32)}, b"4", None, "b"),
        answer({}, b"5", None, "a"),
        answer({"n": np.zeros(0, np.uint8)}, b"6", None, "a"),
    ]
    found = [(r.request_id, r.row, r.outputs) for r in written(columns, answers, tmp_path)]
    assert sorted(found, key=lambda row: row[:2]) == [
        ("1", 0, {"mask": (True, False), "n": (1.0,), "text": (b"x",)}),
        ("1", 1, {"mask": (False, True), "n": (2.0,), "text": (b"y",)}),
        ("2", 0, {"mask": (True, False, False, True)}),
        ("3", 0, {"mask": (True,)}),
        ("3", 1, {"mask": (False,)}),
        ("4", 0, {"n": (0.5,)}),
        ("5", 0, {}),
    ]


def test_inputs_of_a_model_from_elsewhere_are_as_deep_as_their_rows(tmp_path, manifest):
    of_predict = {
        "ids": TensorSpec(dtype="uint64", shape=(None,)),
        "words": TensorSpec(dtype="string", shape=(None, None)),
        "half": TensorSpec(dtype="float16", shape=(None, 1, 2)),
        "any": TensorSpec(dtype="float32", shape=None),
        "threshold": TensorSpec(dtype="float32", shape=()),
    }
    numbers = {"ids": TensorSpec(dtype="float32", shape=(None, 2))}
    text = {"inputs": TensorSpec(dtype="string", shape=(None,))}
    signatures = {
        "a": SignatureSpec(method="predict", inputs=of_predict, outputs={}),
        "b": SignatureSpec(method="predict", inputs=numbers, outputs={}),
        "c": SignatureSpec(method="classify", inputs=text, outputs={}),
    }
    made = manifest(heads={}, inputs={}, signatures=signatures, serve=SAMPLED, format="saved_model")
    columns = PredictionColumns(made)
    assert [name for name in columns.schema.names if name.startswith("input:")] == [
        "input:ids", "input:words", "input:half"
    ]  # fmt: skip
    y = {"y": np.zeros(2, np.float32)}
    words, ragged = np.array([["a", "b"], ["c", "d"]]), np.empty((2, 1), object)
    ragged[:, 0] = [b"\xff", "e"]
    half = np.array([[[0.5, 1.0]], [[2.0, 4.0]]], np.float16)
    examples = np.array([b"one", b"two"], object)
    ids = np.array([1, 2**63], np.uint64)
    asked = [
        ("a", {"input:ids": ids, "input:words": words, "input:half": half}),
        ("a", {"input:words": ragged, "input:any": half, "input:threshold": np.float32(1)}),
        ("a", None),
        ("b", {"input:ids": np.ones((2, 2), np.float32)}),  # of another depth
        ("c", {"example": examples}),
        ("a", {"input:ids": np.array([b"x", b"y"], object), "input:words": words[:1]}),
    ]
    answers = [
        answer(y, str(number).encode(), inputs, signature)
        for number, (signature, inputs) in enumerate(asked)
    ]
    rows = written(columns, answers, tmp_path)
    found = {(row.request_id, row.row): (row.inputs, row.example) for row in rows}
    nothing = {"ids": None, "words": None, "half": None}
    assert found == {
        ("0", 0): ({"ids": 1.0, "words": [b"a", b"b"], "half": [[0.5, 1.0]]}, None),
        ("0", 1): ({"ids": 2.0**63, "words": [b"c", b"d"], "half": [[2.0, 4.0]]}, None),
        ("1", 0): ({**nothing, "words": [b"\xff"]}, None),
        ("1", 1): ({**nothing, "words": [b"e"]}, None),
        **{(one, row): (None, None) for one in "235" for row in (0, 1)},
        ("4", 0): (None, b"one"),
        ("4", 1): (None, b"two"),
    }
