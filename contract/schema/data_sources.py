"""Kinds of source beside those of `contract.schema.data`: typed files, images, queries."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contract.schema.source import (
    SourcePath,
    SourceSection,
    files_state,
    folder_state,
    query_state,
)

Files = Annotated[tuple[str, ...], Field(min_length=1), SourcePath]
_FILES = (
    "Paths or globs of the files, relative to the pipeline's folder; at least one. A folder means "
    "all files in it."
)


class JsonLinesSource(SourceSection, data_state=files_state):
    """Text with one JSON object a line; gzip, bz2, xz, zstd and lz4 are unpacked."""

    kind: Literal["jsonl"] = Field(description="Kind of the source.")
    files: Files = Field(description=_FILES)
    columns: tuple[str, ...] | None = Field(
        None,
        description="Names of the keys that are read; null: those of each file's first 1,000 "
        "lines.",
    )


class ArrowSource(SourceSection, data_state=files_state):
    """Arrow IPC files and streams, also called Feather."""

    kind: Literal["arrow"] = Field(description="Kind of the source.")
    files: Files = Field(description=_FILES)


class OrcSource(SourceSection, data_state=files_state):
    """ORC files; their column names must be those of the features and labels."""

    kind: Literal["orc"] = Field(description="Kind of the source.")
    files: Files = Field(description=_FILES)


class AvroSource(SourceSection, data_state=files_state):
    """Avro files; the fields of their records are the columns."""

    kind: Literal["avro"] = Field(description="Kind of the source.")
    files: Files = Field(description=_FILES)


class TfRecordSource(SourceSection, data_state=files_state):
    """TFRecord files of tf.Example, plain or packed with gzip, as TFX writes them."""

    kind: Literal["tfrecord"] = Field(description="Kind of the source.")
    files: Files = Field(description=_FILES)
    columns: tuple[str, ...] | None = Field(
        None,
        description="Names of the features that are read; null: those of each file's first 1,000 "
        "examples.",
    )


class ImagesSource(SourceSection, data_state=folder_state):
    """A folder with one folder of JPEG and PNG files per class.

    Columns: `image` (the file's bytes, not decoded), `label` (the class's folder) and `path`
    (relative to `folder`).
    """

    kind: Literal["images"] = Field(description="Kind of the source.")
    folder: Annotated[str, SourcePath] = Field(
        description="Path of the folder that holds a folder for each class."
    )


class SqlSource(SourceSection, data_state=query_state):
    """The rows of a query: by DuckDB over files, or by a database that SQLAlchemy reaches."""

    kind: Literal["sql"] = Field(description="Kind of the source.")
    query: Annotated[str, Field(min_length=1)] = Field(
        description="One SELECT; the names of its columns are those of the features and labels."
    )
    tables: Annotated[dict[str, tuple[str, ...]], SourcePath] = Field(
        {},
        description="Tables of a DuckDB query by name, each with paths or globs of its Parquet, "
        "CSV or JSON files; the query can read no other files.",
    )
    database: Annotated[str | None, SourcePath] = Field(
        None, description="Path of an SQLite file; null: none."
    )
    url_env: str | None = Field(
        None,
        description="Name of the environment variable that holds the database's SQLAlchemy URL, "
        "password included; null: none.",
    )
    url_file: str | None = Field(
        None, description="Absolute path of a file that holds that URL; null: none."
    )
    order_by: tuple[str, ...] = Field(
        (),
        description="Columns that together order the rows without ties, so that each run reads "
        "them in the same order; a database needs them.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ways = ("tables", "database", "url_env", "url_file")
        given = [way for way in ways if getattr(self, way)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected one of {', '.join(ways)}; found {found}")
        if not self.tables and not self.order_by:
            raise ValueError("order_by: a database returns rows in any order; name the columns")
        if "://" in (self.url_env or ""):
            raise ValueError("url_env: expected the name of an environment variable, found a URL")
        return self

    @property
    def place(self) -> str:
        """What messages call the source; never its URL."""
        if self.tables:
            return f"sql({', '.join(self.tables)})"
        return f"sql({self.database or self.url_env or self.url_file})"
