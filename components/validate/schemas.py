"""The data schema (`tensorflow_metadata`): what a run's data looks like, and what is in force."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.canonical_files import proto_as_json
from components.data.raw_columns import ID
from components.data.raw_examples import raw_schema
from components.validate.statistics import MOST_COMMON, ColumnStatistics, DataStatistics
from contract.errors import DataError
from contract.model_io import label_key
from contract.schema.pipeline import PipelineConfig
from contract.storage import write_atomically

# A learned range is what was seen, widened on either side by its width times this: a new maximum
# is nothing to report, another unit of measurement is.
_SLACK = 1.0


def read_schema(path: Path) -> schema_pb2.Schema | None:
    """Read the schema in force, or return None where there is none yet.

    Raises:
        DataError: If the file is not a schema.
    """
    if not path.exists():
        return None
    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a schema: {error}. Fix it, or delete it: the next good run writes a "
            "new one."
        ) from error


def write_schema(schema: schema_pb2.Schema, path: Path) -> None:
    """Write a schema as JSON, atomically, to the same bytes every time."""
    write_atomically(path, proto_as_json(schema))


def infer_schema(
    config: PipelineConfig, statistics: DataStatistics, in_force: schema_pb2.Schema | None
) -> schema_pb2.Schema:
    """Return the schema of this run: types from the config, domains from config and data.

    What the schema in force knows of a column is kept: its categories, to which this run's are
    added, and its range, of which the bounds that the config declares go first.
    """
    schema = raw_schema(config)
    known = {feature.name: feature for feature in in_force.feature} if in_force else {}
    for feature in list(schema.feature):
        if feature.name == ID:
            schema.feature.remove(feature)
            continue
        columns = [split[feature.name] for split in statistics.splits.values()]
        if feature.type == schema_pb2.BYTES or feature.name in _labels(config):
            _add_categories(feature, columns, known.get(feature.name))
        else:
            _add_range(feature, columns, config, known.get(feature.name))
    del schema.tensor_representation_group[""].tensor_representation[ID]
    return schema


def domains(schema: schema_pb2.Schema) -> dict[str, tuple[str, ...]]:
    """Return the categories in force, of the columns that have a list of them."""
    return {
        feature.name: tuple(feature.string_domain.value)
        for feature in schema.feature
        if feature.HasField("string_domain")
    }


def range_of(feature: schema_pb2.Feature) -> tuple[float, float] | None:
    """Return a column's range in force, if it has one."""
    for kind in ("int_domain", "float_domain"):
        if feature.HasField(kind):
            domain = getattr(feature, kind)
            return float(domain.min), float(domain.max)
    return None


def describe_type(feature: schema_pb2.Feature) -> str:
    """Return a column's type and shape in words."""
    names = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float32", schema_pb2.BYTES: "string"}
    name = names.get(feature.type, "unknown")
    if not feature.HasField("shape"):
        return f"variable-length {name}"
    sizes = [dim.size for dim in feature.shape.dim]
    return f"{name} {sizes}" if sizes else name


# --- inside -------------------------------------------------------------------------------------


def _labels(config: PipelineConfig) -> set[str]:
    return {label_key(h) for h, settings in config.heads.items() if settings.task != "regression"}


def _add_categories(
    feature: schema_pb2.Feature,
    columns: list[ColumnStatistics],
    known: schema_pb2.Feature | None,
) -> None:
    if known is not None and not known.HasField("string_domain"):
        return  # too many to list, once and for all
    found = dict.fromkeys(known.string_domain.value if known is not None else ())
    for column in columns:
        if column.distinct > MOST_COMMON:
            return
        found.update(dict.fromkeys(column.most_common))
    if len(found) <= MOST_COMMON:
        feature.string_domain.value.extend(found)
        feature.string_domain.SetInParent()


def _add_range(
    feature: schema_pb2.Feature,
    columns: list[ColumnStatistics],
    config: PipelineConfig,
    known: schema_pb2.Feature | None,
) -> None:
    bounds = range_of(known) if known is not None else None
    if bounds is None and (seen := list(_seen(columns))):
        slack = _SLACK * (max(seen) - min(seen))
        bounds = min(seen) - slack, max(seen) + slack
    if bounds is not None:
        declared = config.features.get(feature.name)
        minimum = declared.minimum if declared else None
        maximum = declared.maximum if declared else None
        low, high = bounds
        _set_range(
            feature,
            (low if minimum is None else minimum, high if maximum is None else maximum),
        )


def _seen(columns: list[ColumnStatistics]) -> Iterator[float]:
    for column in columns:
        if column.minimum is not None and column.maximum is not None:
            yield column.minimum
            yield column.maximum


def _set_range(feature: schema_pb2.Feature, bounds: tuple[float, float]) -> None:
    if feature.type == schema_pb2.INT:
        limit = 2**63 - 1
        feature.int_domain.min = max(-limit, int(bounds[0]))
        feature.int_domain.max = min(limit, int(bounds[1]))
    else:
        feature.float_domain.min, feature.float_domain.max = bounds
