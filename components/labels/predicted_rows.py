"""Rows that are labelled by their prediction: their features come from the prediction log."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.raw_rows import BadRow, SourceRows
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.prediction_log.columns import INPUT, input_type
from contract.prediction_log.reading import read_tables
from contract.records.package import InputSpec
from contract.schema.pipeline import PipelineConfig

REQUEST_ID, ROW = "request_id", "row"

Place = tuple[str, str]  # the request's id and the row's number, as the file has them
Inputs = Mapping[str, Any]  # a row's, by name


class PredictedRows:
    """The inputs of the predictions that a file of labels names."""

    def __init__(
        self,
        layout: PipelineLayout,
        config: PipelineConfig,
        batches: Sequence[SourceRows],
        kept: Mapping[Place, Inputs],
    ) -> None:
        """Look for the rows of the batches, which have the columns `request_id` and `row`.

        Inputs that were kept are not looked for in the log, which may be gone.
        """
        self._config = config
        wanted = {place for batch in batches for place in _places(batch)}
        self._inputs = {**kept, **logged_inputs(layout, wanted - kept.keys())}

    def joined(self, batches: Sequence[SourceRows], labels: Sequence[str]) -> Iterator[SourceRows]:
        """Yield the rows with features and labels; those that were not logged are bad."""
        for batch in batches:
            places = _places(batch)
            is_known = np.array([place in self._inputs for place in places], np.bool_)
            unknown = [self._bad(batch, int(at)) for at in np.flatnonzero(~is_known)]
            known = [self._inputs[place] for place in places if place in self._inputs]
            columns = {name: self._feature(name, known) for name in self._config.features}
            columns |= {name: batch.columns[name].filter(pa.array(is_known)) for name in labels}
            rows = pa.RecordBatch.from_pydict(columns)
            yield SourceRows(batch.file, batch.rows[is_known], rows, (*batch.bad, *unknown))

    def _feature(self, name: str, known: Sequence[Inputs]) -> pa.Array:
        values, feature = [inputs.get(name) for inputs in known], self._config.features[name]
        kind = input_type(InputSpec.of(feature))
        if feature.default == "":  # a cell of a delta cannot tell an empty text from a missing one
            values = [None if value in ("", b"") else value for value in values]
        try:
            return pa.array(values, kind)
        except pa.ArrowException as error:
            raise DataError(
                f"feature '{name}': the prediction log has it as another type than the config "
                f"({error}); label rows of versions that were trained with this config"
            ) from error

    def _bad(self, batch: SourceRows, at: int) -> BadRow:
        request_id, row = _places(batch)[at]
        return BadRow(
            batch.file,
            int(batch.rows[at]),
            "request_id and row: not in the prediction log with their inputs "
            "(serve.prediction_log_inputs_ratio)",
            f"'{request_id}', {row}",
            {REQUEST_ID: request_id, ROW: row},
        )


def logged_inputs(layout: PipelineLayout, wanted: set[Place]) -> dict[Place, Inputs]:
    """Return the inputs of those rows that a log has, by name, text as bytes."""
    found = dict[Place, Inputs]()
    for folder in log_folders(layout) if wanted else ():
        found |= _logged(folder, wanted - found.keys())
    return found


def _places(batch: SourceRows) -> list[Place]:
    ids, rows = batch.columns[REQUEST_ID].to_pylist(), batch.columns[ROW].to_pylist()
    return [(i or "", (row or "").strip()) for i, row in zip(ids, rows, strict=True)]


def log_folders(layout: PipelineLayout) -> list[Path]:
    """Return the logs of all versions, the newest version first."""
    folders = layout.prediction_logs.glob("[!.]*")
    numbered = [folder for folder in folders if folder.name.isdigit()]
    return sorted(numbered, key=lambda folder: -int(folder.name))


def _logged(folder: Path, wanted: set[Place]) -> dict[Place, Inputs]:
    """Return the inputs of those wanted rows that a version's log has."""
    found: dict[Place, Inputs] = {}
    ids = pa.array(sorted({request_id for request_id, _ in wanted}), pa.string())
    for table in read_tables(folder, columns=[REQUEST_ID, ROW, INPUT]):
        for row in table.filter(pc.is_in(table[REQUEST_ID], ids)).to_pylist():
            place = (row.pop(REQUEST_ID), str(row.pop(ROW)))
            if place in wanted and any(value is not None for value in row.values()):
                found[place] = {name.removeprefix(INPUT): value for name, value in row.items()}
    return found
