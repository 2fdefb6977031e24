"""Kinds of data source beside those of `contract.schema.data`: typed and nested files, images."""

from typing import Annotated, Literal

from pydantic import Field

from contract.schema.source import SourcePath, SourceSection, files_state, folder_state

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
