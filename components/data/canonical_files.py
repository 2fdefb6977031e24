"""Protos and SavedModels in one canonical form: files of equal content have equal bytes.

A step is recognised as unchanged by the digests of its artifacts, so a file must not depend on the
process that wrote it. Files that protobuf, TensorFlow and tf.Transform write do, in five ways:

* maps come in the order of a hash table, whose seed is new in every process;
* the nodes of a traced function come in the order of their addresses in memory;
* a table that is read from a file is named after that file's path, which is a temporary one;
* names of functions end in a number that counts what the process has traced before;
* `fingerprint.pb` holds a random number.
"""

import heapq
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.message import Message

from contract.storage import digest_file, write_atomically

_SAVED_MODEL = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"
# What TensorFlow makes of a file name, an eager tensor, in the shared name of a table.
_FILE_NAME = re.compile(
    rb"tf\.Tensor\(b(?P<quote>['\"])(?P<path>.*?)(?P=quote), shape=\(\), [^)]*\)"
)
_NUMBERED = re.compile(r"(?P<base>.+)_(?P<number>\d+)")
_QUOTED = re.compile(r'"(\w+)"')


def proto_as_json(message: Message) -> str:
    """Return a proto as JSON under its own field names, with sorted keys."""
    return str(json_format.MessageToJson(message, preserving_proto_field_name=True, sort_keys=True))


def rewrite_json(path: Path) -> None:
    """Write a JSON file again, with sorted keys."""
    write_atomically(path, json.dumps(json.loads(path.read_bytes()), sort_keys=True))


def rewrite_saved_model(folder: Path) -> None:
    """Write the graphs of a SavedModel again, in canonical form, and remove its fingerprint.

    What the model computes stays as it is; variables and assets are not touched. TensorFlow loads
    a SavedModel without `fingerprint.pb` as it does one with it, and one that does not match would
    be worse than none.

    Call it while the files that fill the model's tables are still where they were at the export.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / _SAVED_MODEL
    model = _renumbered(saved_model_pb2.SavedModel.FromString(path.read_bytes()))
    for graph in (meta.graph_def for meta in model.meta_graphs):
        _sort(graph.library.function, key=lambda function: function.signature.name)
        _sort(graph.library.gradient, key=lambda gradient: gradient.function_name)
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            _sort_nodes(nodes)
            for node in nodes:
                _name_by_content(node)
    write_atomically(path, model.SerializeToString(deterministic=True))
    (folder / _FINGERPRINT).unlink(missing_ok=True)


# --- inside -------------------------------------------------------------------------------------


def _renumbered(model: Any) -> Any:
    """Count the functions of one base name from 1, in the order in which they were traced."""
    functions = (f for meta in model.meta_graphs for f in meta.graph_def.library.function)
    found = {_NUMBERED.fullmatch(name) for name in {f.signature.name for f in functions}}
    seen: defaultdict[str, int] = defaultdict(int)
    names: dict[str, str] = {}
    for match in sorted((m for m in found if m), key=lambda m: (m["base"], int(m["number"]))):
        seen[match["base"]] += 1
        names[match[0]] = f"{match['base']}_{seen[match['base']]}"
    # As text, because a name stands in calls, attributes, signatures and the graph of objects.
    text = _QUOTED.sub(lambda m: f'"{names.get(m[1], m[1])}"', text_format.MessageToString(model))
    return text_format.Parse(text, type(model)())


def _sort(messages: MutableSequence[Any], key: Callable[[Any], str]) -> None:
    _replace(messages, sorted(messages, key=key))


def _sort_nodes(nodes: MutableSequence[Any]) -> None:
    """Put each node after those that it reads, ties by name; control inputs last, by name."""
    by_name = {node.name: node for node in nodes}
    _replace(nodes, [by_name[name] for name in _in_order(by_name)])
    for node in nodes:
        values = [i for i in node.input if not i.startswith("^")]
        controls = sorted(i for i in node.input if i.startswith("^"))
        node.input[:] = [*values, *controls]


def _in_order(by_name: dict[str, Any]) -> Iterator[str]:
    """Yield the names of nodes, each after those that it reads; nodes in loops last, by name."""
    missing = {name: set(_read_by(node)) & by_name.keys() for name, node in by_name.items()}
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for name, read in missing.items():
        for other in read:
            readers[other].append(name)
    ready = sorted(name for name, read in missing.items() if not read)  # sorted: a heap already
    while ready:
        yield (name := heapq.heappop(ready))
        del missing[name]
        for reader in readers[name]:
            missing[reader].remove(name)
            if not missing[reader]:
                heapq.heappush(ready, reader)
    yield from sorted(missing)


def _read_by(node: Any) -> Iterator[str]:
    for reference in node.input:
        yield reference.removeprefix("^").split(":")[0]


def _replace(messages: MutableSequence[Any], ordered: Iterable[Any]) -> None:
    # Clearing the field would empty the messages that it owns.
    copies = [type(message).FromString(message.SerializeToString()) for message in ordered]
    del messages[:]
    messages.extend(copies)


def _name_by_content(node: Any) -> None:
    """Name a table after its file's base name and content instead of its path.

    Where two graphs share resources, tables of one name are one table. With the base name alone,
    the second would look up its keys in the first one's file; with the content alone, tables of
    different key types could meet.
    """
    if "shared_name" in node.attr:
        name = node.attr["shared_name"]
        name.s = _FILE_NAME.sub(_digest_of_file, name.s)


def _digest_of_file(found: re.Match[bytes]) -> bytes:
    path = Path(found["path"].decode(errors="surrogateescape"))
    return f"{path.name}@{digest_file(path)}".encode() if path.is_file() else found[0]
