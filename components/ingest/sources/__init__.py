"""Where rows come from: one small module a kind, all of them with the same four functions.

`files(source)`             the paths that are read, each by itself; DataError if there are none
`columns(source, file)`     the column names of one file, read without its rows
`read(source, file)`        the rows, as batches of `SourceRows`; DataError if it is broken
`size_bytes(source, file)`  about how much there is to read, for packing work

To add a source: a section in `contract/schema/data.py`, a module here, a line in `MODULES`.
"""

from components.ingest.sources import csv, idx, parquet, sklearn
from components.ingest.sources.source import SourceModule
from contract.schema.data import Source

MODULES: dict[str, SourceModule] = {
    "csv": csv,
    "idx": idx,
    "parquet": parquet,
    "sklearn": sklearn,
}


def module_of(source: Source) -> SourceModule:
    """Return the module that reads a source."""
    return MODULES[source.kind]
