import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.data import raw_examples
from components.data.example_bytes import can_encode, encode_examples
from components.data.tf_example import example_class

KINDS = {
    "bytes_list": pa.binary(),
    "float_list": pa.float32(),
    "int64_list": pa.int64(),
}
VALUES = {
    "bytes_list": st.binary(max_size=3) | st.text(max_size=300).map(str.encode),
    "float_list": st.floats(width=32),
    "int64_list": st.integers(-(2**63), 2**63 - 1),
}


NAMES = st.text(min_size=1, max_size=140)


@st.composite
def batches(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> pa.RecordBatch:
    count = draw(st.integers(0, 6))
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=5)):
        kind = draw(st.sampled_from(sorted(KINDS)))
        row = st.none() | st.lists(VALUES[kind], max_size=4)
        rows = draw(st.lists(row, min_size=count, max_size=count))
        make = draw(st.sampled_from([pa.list_, pa.large_list]))
        columns[name] = pa.array(rows, make(KINDS[kind]))
    return pa.RecordBatch.from_pydict(columns)


def by_protobuf(batch: pa.RecordBatch) -> list[bytes]:
    """Serialize each row by hand, with protobuf's own classes."""
    rows = []
    for row in batch.to_pylist():
        example = example_class()()
        for name, values in row.items():
            feature = example.features.feature[name]
            kind = batch.schema.field(name).type.value_type
            field = next(one for one, type_ in KINDS.items() if type_ == kind)
            if values is not None:
                getattr(feature, field).SetInParent()
                getattr(feature, field).value.extend(values)
        rows.append(example.SerializeToString(deterministic=True))
    return rows


def test_a_name_stands_before_those_that_it_begins_with() -> None:
    names = ["age", "age_group", "a", "b", "ag"]
    batch = pa.RecordBatch.from_pydict({name: pa.array([[1]]) for name in names})
    assert encode_examples(batch) == by_protobuf(batch)


@given(batches())
@settings(max_examples=60, deadline=None)
def test_rows_have_the_bytes_of_protobufs_deterministic_serialization(
    batch: pa.RecordBatch,
) -> None:
    assert can_encode(batch)
    assert encode_examples(batch) == by_protobuf(batch)


@given(batches(NAMES.filter(lambda name: "\0" not in name)))  # where tfx_bsl ends a name
@settings(max_examples=30, deadline=None)
def test_rows_are_the_examples_that_tfx_makes_of_the_same_batch(batch: pa.RecordBatch) -> None:
    parse = example_class().FromString
    theirs = [parse(one) for one in RecordBatchToExamplesEncoder(None).encode(batch)]
    assert [one.SerializeToString(deterministic=True) for one in theirs] == encode_examples(batch)


def ragged(names: list[str]) -> schema_pb2.Schema:
    """Return a schema in which all columns are ragged."""
    schema = schema_pb2.Schema()
    for name in names:
        schema.feature.add(name=name)
        tensor = schema.tensor_representation_group[""].tensor_representation[name].ragged_tensor
        tensor.feature_path.step.append(name)
    return schema


@given(batches(NAMES.filter(lambda name: "\0" not in name)))
@settings(max_examples=30, deadline=None)
def test_a_flat_ragged_column_has_the_bytes_that_tfx_makes_of_it(batch: pa.RecordBatch) -> None:
    schema = ragged(batch.schema.names)
    parse = example_class().FromString
    theirs = [parse(one) for one in RecordBatchToExamplesEncoder(schema).encode(batch)]
    ours = raw_examples.encode(batch, schema)
    assert ours == [one.SerializeToString(deterministic=True) for one in theirs]
    assert ours == encode_examples(batch)


def test_a_nested_ragged_column_becomes_its_values_and_their_lengths() -> None:
    nested = pa.large_list(pa.large_list(pa.int64()))
    batch = pa.RecordBatch.from_pydict({"a": pa.array([[[1, 2], [3]]], nested)})
    schema = schema_pb2.Schema()
    schema.feature.add(name="values")
    schema.feature.add(name="lengths")
    tensor = schema.tensor_representation_group[""].tensor_representation["a"].ragged_tensor
    tensor.feature_path.step.append("values")
    tensor.partition.add(row_length="lengths")
    (example,) = raw_examples.encode(batch, schema)
    features = example_class().FromString(example).features.feature
    assert {name: [*one.int64_list.value] for name, one in features.items()} == {
        "values": [1, 2, 3],
        "lengths": [2, 1],
    }


@given(batches(), st.data())
@settings(max_examples=30, deadline=None)
def test_a_part_of_a_batch_is_encoded_as_its_rows_in_the_whole(
    batch: pa.RecordBatch, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, batch.num_rows))
    assert encode_examples(batch.slice(first)) == encode_examples(batch)[first:]


@pytest.mark.parametrize(
    "size", [0, 1, 127, 128, 16383, 16384, 70_000, 2_100_000], ids=lambda size: f"{size}-bytes"
)
def test_long_values_have_lengths_of_several_bytes(size: int) -> None:
    batch = pa.record_batch({"text": pa.array([[b"x" * size], [b"y"]], pa.list_(pa.binary()))})
    assert encode_examples(batch) == by_protobuf(batch)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0], pa.float32()),
        pa.array([[1.0]], pa.list_(pa.float64())),
        pa.array([[None]], pa.list_(pa.int64())),
        pa.array([[[1]]], pa.list_(pa.list_(pa.int64()))),
    ],
    ids=["no list", "float64", "null inside", "list of lists"],
)
def test_other_columns_are_left_to_the_general_encoder(column: pa.Array) -> None:
    assert not can_encode(pa.record_batch({"x": column}))
