"""Key columns: what batch inference repeats from its input, so that answers can be joined to it.

Integers of a Parquet file stay integers (int64); everything else is text. A missing key is null.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.data.parquet_files import read_schema
from components.data.source_columns import plain, type_problem
from components.data.tf_example import example_class
from contract.errors import DataError, UserError, did_you_mean

Keys = Mapping[str, pa.Array]  # one entry per row, in the order of the rows


def check_names(keys: Sequence[str], taken: Iterable[str]) -> None:
    """Check that answers can have columns of these names.

    Raises:
        UserError: If a key is named twice, or as a column that the answers have.
    """
    repeated = sorted({name for name in keys if keys.count(name) > 1})
    if repeated:
        raise UserError(f"--key {repeated[0]}: given more than once; name each column once")
    if same := sorted(set(keys) & set(taken)):
        raise UserError(
            f"--key {same[0]}: the answers have a column of this name; rename it in the input"
        )


def key_types(path: Path, keys: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the type that each key has in the answers.

    Raises:
        DataError: If a Parquet file cannot be read, lacks a key, or has it as lists.
    """
    if not keys or not path.name.endswith(".parquet"):
        return dict.fromkeys(keys, pa.string())
    schema = read_schema(path)
    _check_present(path, schema.names, keys)
    for name in keys:
        kind = schema.field(name).type
        if type_problem(kind) or pa.types.is_nested(kind):
            raise DataError(f"{path}: key '{name}' is {kind}; expected one value per row")
    return {name: _answer_type(schema.field(name).type) for name in keys}


def keys_of_batch(path: Path, batch: pa.RecordBatch, keys: Sequence[str]) -> Keys:
    """Return the key columns of some rows.

    Raises:
        DataError: If the file lacks one.
    """
    _check_present(path, batch.schema.names, keys)
    types = {name: _answer_type(batch.schema.field(name).type) for name in keys}
    return {name: plain(batch[name])[0].cast(types[name]) for name in keys}


def keys_of_examples(path: Path, examples: Sequence[bytes], keys: Sequence[str]) -> Keys:
    """Return the key features of some serialized tf.Examples, as text.

    Raises:
        DataError: If no example has one, or an example has several values of it.
    """
    parsed: list[Any] = []
    if keys:
        parsed = [example_class().FromString(example) for example in examples]
    found = {name: [_value(path, example, name) for example in parsed] for name in keys}
    for name, values in found.items():
        if all(value is None for value in values):
            known = sorted({one for example in parsed for one in example.features.feature})
            _check_present(path, known, [name])
    return {name: pa.array(values, pa.string()) for name, values in found.items()}


def _check_present(path: Path, names: Sequence[str], keys: Sequence[str]) -> None:
    for name in keys:
        if name not in names:
            raise DataError(
                f"{path}: key '{name}': no such column{did_you_mean(name, names)}; the file has "
                f"{', '.join(filter(None, names))}"
            )


def _answer_type(kind: pa.DataType) -> pa.DataType:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.int64() if pa.types.is_integer(value) and value != pa.uint64() else pa.string()


def _value(path: Path, example: Any, name: str) -> str | None:
    feature = example.features.feature.get(name)
    kind = feature.WhichOneof("kind") if feature is not None else None
    values = getattr(feature, kind).value if kind else ()
    if len(values) > 1:
        raise DataError(f"{path}: key '{name}' has {len(values)} values in a row; expected one")
    if not values:
        return None
    return values[0].decode(errors="replace") if isinstance(values[0], bytes) else str(values[0])
