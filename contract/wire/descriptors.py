"""Message types described in Python, in a private pool.

A message is `message("Name", field=(number, "type"), ...)`. A type is a scalar of proto3 (`int64`),
a message or enum by its full name (`tensorflow.TensorProto`), `repeated TYPE`, or `map TYPE` (from
strings). Repeated numbers are packed, as in proto3.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, message_factory, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool

Message = Any  # a DescriptorProto; protobuf's classes have no types
Enum = Any  # an EnumDescriptorProto

_ENUM = descriptor_pb2.EnumDescriptorProto
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: _FIELD.Type.Value(f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}

# Not the pool of the process: TensorFlow registers messages of the same names there.
POOL = DescriptorPool()
for known in (any_pb2, wrappers_pb2):
    POOL.AddSerializedFile(known.DESCRIPTOR.serialized_pb)


def message(
    name: str,
    /,
    *,
    oneofs: Mapping[str, Sequence[str]] = MappingProxyType({}),
    inner: Sequence[Any] = (),
    **fields: Any,
) -> Message:
    """Describe a message.

    Args:
        name: Without the package.
        oneofs: By the name of a oneof, its fields.
        inner: Messages and enums within it.
        fields: By name, number and type.
    """
    made = descriptor_pb2.DescriptorProto(name=name)
    of = {field: index for index, names in enumerate(oneofs.values()) for field in names}
    made.oneof_decl.extend(descriptor_pb2.OneofDescriptorProto(name=one) for one in oneofs)
    for within in inner:
        (made.enum_type if isinstance(within, _ENUM) else made.nested_type).append(within)
    for field, (number, kind) in fields.items():
        added = made.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
        _set_type(made, added, kind)
        if field in of:
            added.oneof_index = of[field]
    return made


def enum(name: str, /, **values: int) -> Enum:
    """Describe an enum."""
    made = _ENUM(name=name)
    for value, number in values.items():
        made.value.add(name=value, number=number)
    return made


def add_file(name: str, package: str, kinds: Sequence[Any], services: Sequence[Any] = ()) -> None:
    """Add types to the pool; a field names those of other files by their full name."""
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    file.dependency.extend(_FILES)
    for kind in kinds:
        (file.enum_type if isinstance(kind, _ENUM) else file.message_type).append(kind)
    file.service.extend(services)
    _FILES.append(name)
    POOL.Add(file)


def service(name: str, /, *, streams: Sequence[str] = (), **methods: tuple[str, str]) -> Any:
    """Describe a service: by method, the full names of its request and of its answer.

    Args:
        name: Without the package.
        streams: Methods that answer a stream; one named with a `*` in front takes one, too.
        methods: By name, request and answer.
    """
    made = descriptor_pb2.ServiceDescriptorProto(name=name)
    for method, (request, answer) in methods.items():
        made.method.add(
            name=method,
            input_type=f".{request}",
            output_type=f".{answer}",
            client_streaming=f"*{method}" in streams,
            server_streaming=method in streams or f"*{method}" in streams,
        )
    return made


def message_class(full_name: str) -> Any:
    """Return the class of a message in the pool."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


# What a file may use: all before it.
_FILES = [any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name]


def _set_type(made: Message, field: Any, kind: str) -> None:
    if kind.startswith("repeated "):
        field.label = _FIELD.LABEL_REPEATED
        kind = kind.removeprefix("repeated ")
    if kind.startswith("map "):
        field.label = _FIELD.LABEL_REPEATED
        kind = _map_entry(made, field.name, kind.removeprefix("map "))
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        # The pool finds out whether it is a message or an enum.
        field.type_name = kind if "." not in kind else f".{kind}"


def _map_entry(made: Message, field: str, of: str) -> str:
    """Add the message that a map is on the wire; return its name within `made`."""
    name = "".join(part.capitalize() for part in field.split("_")) + "Entry"
    entry = made.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    value = entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL)
    _set_type(entry, value, of)
    return name
