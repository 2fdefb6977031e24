"""The message `tf.Example`, without TensorFlow.

The same wire format as tensorflow/core/example/{example,feature}.proto, in a pool of descriptors of
its own: TensorFlow's have the same names. Of the installed libraries only TensorFlow has the
message; importing it costs 3 s of CPU, this 0.06.
"""

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_Field = descriptor_pb2.FieldDescriptorProto
_VALUES = {
    "bytes_list": ("BytesList", _Field.TYPE_BYTES),
    "float_list": ("FloatList", _Field.TYPE_FLOAT),
    "int64_list": ("Int64List", _Field.TYPE_INT64),
}


@cache
def example_class() -> type[Message]:
    """Return the class of `tf.Example`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="slipway/tf_example.proto", package="tensorflow", syntax="proto3"
    )
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field, (message, type_)) in enumerate(_VALUES.items(), 1):
        values = file.message_type.add(name=message)
        values.field.add(name="value", number=1, type=type_, label=_Field.LABEL_REPEATED)
        _add_message(feature, field, number, message).oneof_index = 0
    file.message_type.append(feature)

    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Feature")
    _add_message(features, "feature", 1, "Features.FeatureEntry").label = _Field.LABEL_REPEATED
    _add_message(file.message_type.add(name="Example"), "features", 1, "Features")

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made: type[Message] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.Example")
    )
    return made


def _add_message(
    owner: descriptor_pb2.DescriptorProto, name: str, number: int, message: str
) -> descriptor_pb2.FieldDescriptorProto:
    return owner.field.add(
        name=name,
        number=number,
        type=_Field.TYPE_MESSAGE,
        type_name=f".tensorflow.{message}",
        label=_Field.LABEL_OPTIONAL,
    )
