"""Rows of a table as callers send them: by the same rules by which `ingest` reads a source."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contract.errors import DataError, did_you_mean
from contract.records.package import InputSpec
from contract.schema.data import CsvSource, FeatureConfig, IngestConfig
from contract.schema.pipeline import PipelineConfig

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_ROWS = 5


def rows_to_send(
    columns: "Mapping[str, pa.Array]", inputs: Mapping[str, InputSpec], names: Sequence[object]
) -> list[dict[str, Any]]:
    """Return one JSON object per row, in order; columns that no input has are left out.

    Args:
        columns: Arrays of one length, of any type; null where there is no value.
        inputs: What the model takes. One that has a default need not be among the columns.
        names: What messages call each row, beside its number.

    Raises:
        DataError: If a column is missing, or a row cannot be sent; with the first of them.
    """
    import numpy as np
    import pyarrow as pa

    from components.data.raw_examples import to_columns, to_rows
    from components.data.raw_rows import RowParser, SourceRows

    found = {name: _column(name, columns, spec, len(names)) for name, spec in inputs.items()}
    config = _config(inputs)
    batch = pa.RecordBatch.from_pydict(found)
    parsed = RowParser(config).parse(SourceRows("rows", np.arange(len(names)), batch))
    if parsed.bad:
        told = [
            f"row {b.row + 1} ({names[b.row]!r}): {b.reason}, found {b.found}" for b in parsed.bad
        ]
        more = [f"and {len(told) - _SHOWN_ROWS:,} rows more"] if len(told) > _SHOWN_ROWS else []
        raise DataError("\n".join([*told[:_SHOWN_ROWS], *more]))
    return to_rows(to_columns(parsed.examples, config))


def text_of(column: "pa.Array") -> "pa.Array | None":
    """Return truth values, dates and times as the text that a text feature gets of them.

    A CSV file with this text and the column itself mean the same. None for other types.
    """
    import pyarrow as pa

    from components.data.source_columns import plain

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_temporal(kind)):
        return None
    return plain(column)[0].cast(pa.string())


def _column(name: str, columns: "Mapping[str, pa.Array]", spec: InputSpec, rows: int) -> "pa.Array":
    import pyarrow as pa

    if name in columns:
        return columns[name]
    if spec.default is None and not spec.is_variable_length:
        raise DataError(f"no column '{name}'{did_you_mean(name, columns)}; it has no default")
    return pa.nulls(rows, pa.string())


def _config(inputs: Mapping[str, InputSpec]) -> PipelineConfig:
    """Return a config of these features and nothing to predict."""
    features = {
        name: FeatureConfig(
            dtype=spec.dtype,
            shape=spec.shape,
            is_variable_length=spec.is_variable_length,
            default=spec.default,
        )
        for name, spec in inputs.items()
    }
    source = CsvSource(kind="csv", files=("rows",))
    ingest = IngestConfig(source=source)
    return PipelineConfig.model_construct(
        name="rows", features=features, heads={}, weight=None, ingest=ingest
    )
