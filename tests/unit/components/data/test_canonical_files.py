"""Canonical files: what chance decides does not reach the bytes, what differs does."""

import json
import random
from pathlib import Path

import pytest
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.canonical_files import proto_as_json, rewrite_json, rewrite_saved_model
from contract.storage import digest_file

NODES = {"a": [], "c": ["b:1", "^z", "^a"], "b": ["a"], "z": []}
LOOP = {"enter": [], "merge": ["enter", "next"], "next": ["merge"]}
TABLE = "hash_table_tf.Tensor(b'{}', shape=(), dtype=string)_-2_-1"


def nodes(inputs: dict[str, list[str]], seed: int) -> list[node_def_pb2.NodeDef]:
    """Return nodes, their control inputs and attributes in an order that the seed decides."""
    chance, made = random.Random(seed), []
    for name, given in inputs.items():
        controls = [one for one in given if one.startswith("^")]
        chance.shuffle(controls)
        values = [one for one in given if not one.startswith("^")]
        node = node_def_pb2.NodeDef(name=name, op="NoOp", input=[*values, *controls])
        for key in chance.sample(["T", "dtype", "shape", "value"], 4):
            node.attr[key].s = key.encode()
        made.append(node)
    chance.shuffle(made)
    return made


def write_model(folder: Path, graph: graph_pb2.GraphDef) -> Path:
    folder.mkdir()
    model = saved_model_pb2.SavedModel()
    model.meta_graphs.add().graph_def.CopyFrom(graph)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    (folder / "fingerprint.pb").write_bytes(random.randbytes(8))
    return folder


def shuffled_model(folder: Path, seed: int, inputs: dict[str, list[str]]) -> Path:
    graph = graph_pb2.GraphDef(node=nodes(inputs, seed))
    for name in random.Random(seed).sample(["f_1", "f_2", "f_3"], 3):
        function = graph.library.function.add(node_def=nodes(inputs, seed))
        function.signature.name = name
    return write_model(folder, graph)


def graph_of(folder: Path) -> graph_pb2.GraphDef:
    content = (folder / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def


@pytest.mark.parametrize("inputs", [NODES, LOOP])
def test_the_order_of_nodes_functions_and_attributes_does_not_count(
    tmp_path: Path, inputs: dict[str, list[str]]
) -> None:
    found = set()
    for seed in range(10):
        folder = shuffled_model(tmp_path / str(seed), seed, inputs)
        rewrite_saved_model(folder)
        found.add(digest_file(folder / "saved_model.pb"))
        assert sorted(path.name for path in folder.iterdir()) == ["saved_model.pb"]
    assert len(found) == 1


def test_nodes_keep_their_content_and_follow_what_they_read(tmp_path: Path) -> None:
    folder = shuffled_model(tmp_path / "model", 3, NODES)
    before = {node.name: node.attr for node in graph_of(folder).node}
    rewrite_saved_model(folder)
    graph = graph_of(folder)
    assert [node.name for node in graph.node] == ["a", "b", "z", "c"]
    assert {node.name: node.attr for node in graph.node} == before
    assert list(graph.node[-1].input) == ["b:1", "^a", "^z"]
    assert [function.signature.name for function in graph.library.function] == ["f_1", "f_2", "f_3"]
    bodies = [[n.name for n in function.node_def] for function in graph.library.function]
    assert bodies == [["a", "b", "z", "c"]] * 3


def numbered_model(folder: Path, first: int) -> Path:
    """Write a model of two functions, one calling the other, numbered as a process had come to."""
    names = [f"__inference_scale_{first}", f"__inference_scale_{first + 7}"]
    graph = graph_pb2.GraphDef()
    for name in reversed(names):
        graph.library.function.add().signature.name = name
    call = graph.node.add(name="call", op="PartitionedCall")
    call.attr["f"].func.name = names[1]
    graph.node.add(name="direct", op=names[0])
    return write_model(folder, graph)


def test_functions_are_counted_from_1_wherever_they_are_named(tmp_path: Path) -> None:
    # 9 and 16: in the order of their numbers, which is not that of their names
    folders = [numbered_model(tmp_path / str(first), first) for first in (9, 133)]
    for folder in folders:
        rewrite_saved_model(folder)
    one, other = (digest_file(folder / "saved_model.pb") for folder in folders)
    assert one == other
    graph = graph_of(folders[0])
    names = [function.signature.name for function in graph.library.function]
    assert names == ["__inference_scale_1", "__inference_scale_2"]
    assert graph.node[0].attr["f"].func.name == names[1]
    assert graph.node[1].op == names[0]


def table_model(folder: Path, vocabulary: Path) -> str:
    """Return what a table that is read from a file is called in a rewritten model."""
    graph = graph_pb2.GraphDef()
    node = graph.library.function.add().node_def.add(name="table", op="HashTableV2")
    node.attr["shared_name"].s = TABLE.format(vocabulary).encode()
    rewrite_saved_model(write_model(folder, graph))
    rewritten = graph_of(folder).library.function[0].node_def[0].attr["shared_name"].s
    return rewritten.decode()


def test_a_table_is_named_after_the_content_of_its_file_and_not_its_place(tmp_path: Path) -> None:
    for folder, content in (("one", "cook"), ("other", "cook"), ("third", "smith")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "jobs").write_text(content)
    one, other, third = (
        table_model(tmp_path / f"model-{folder}", tmp_path / folder / "jobs")
        for folder in ("one", "other", "third")
    )
    # sha256 of the four bytes "cook"
    cook = "sha256:03fb94180aa0ff2c583d97bbb1fc6d84a6ba7df5bde3c267459bb9a9b8c9841b"
    assert one == other == f"hash_table_jobs@{cook}_-2_-1"
    assert third != one


def test_a_table_whose_file_is_gone_keeps_its_name(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert table_model(tmp_path / "model", gone) == TABLE.format(gone)


def test_json_of_a_proto_does_not_depend_on_the_order_of_its_map() -> None:
    names = [f"column {number}" for number in range(20)]
    texts = set()
    for seed in range(5):
        schema = schema_pb2.Schema()
        random.Random(seed).shuffle(names)
        for name in names:
            tensors = schema.tensor_representation_group[""].tensor_representation
            tensors[name].dense_tensor.column_name = name
        texts.add(proto_as_json(schema))
    (text,) = texts
    tensors = json.loads(text)["tensor_representation_group"][""]["tensor_representation"]
    assert list(tensors) == sorted(names)


def test_rewritten_json_has_sorted_keys(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"b": 1, "a": {"d": 2, "c": 3}}')
    rewrite_json(path)
    assert path.read_text() == '{"a": {"c": 3, "d": 2}, "b": 1}'
