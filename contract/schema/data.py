"""Sections about the data: where it is, what it means, how it is read, checked and prepared."""

import codecs
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from contract.errors import did_you_mean
from contract.schema.data_sources import (
    ArrowSource,
    AvroSource,
    ImagesSource,
    JsonLinesSource,
    OrcSource,
    SqlSource,
    TfRecordSource,
)
from contract.schema.section import Count, Ratio, Scalar, Section
from contract.schema.source import (
    SourcePath,
    SourceSection,
    files_state,
    kinds_of,
    shipped_state,
)
from contract.schema.split import SplitConfig

SPLITS = ("train", "eval", "test")

# Python codecs that are not encodings of files; mbcs and oem exist on Windows only.
_NO_FILE_ENCODINGS = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
)
_COMMON_ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "iso8859-15", "cp1251", "shift_jis")


def _known_encoding(name: str) -> str:
    """Return an encoding's name; ValueError if Python has no such encoding of text."""
    try:
        found = codecs.lookup(name)
        is_text = found._is_text_encoding and found.name.replace("-", "_") not in _NO_FILE_ENCODINGS
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        known = ", ".join(_COMMON_ENCODINGS)
        near = did_you_mean(name.lower(), _COMMON_ENCODINGS)
        raise ValueError(f"unknown text encoding{near} (such as {known})")
    return name


Encoding = Annotated[str, AfterValidator(_known_encoding)]


def _class_as_text(name: Any) -> Any:
    """Return a class as text; a number is its own digits."""
    if isinstance(name, bool):
        written = "yes, on or true" if name else "no, off or false"
        raise ValueError(
            f"expected text, found the truth value that YAML makes of an unquoted {written}; quote "
            'it, as in ["no", "yes"]'
        )
    return str(name) if isinstance(name, int | float) else name


ClassName = Annotated[str, BeforeValidator(_class_as_text)]


class CsvSource(SourceSection, data_state=files_state):
    """Comma-separated text, one row per line; gzip, bz2, xz, zstd and lz4 are unpacked."""

    kind: Literal["csv"] = Field(description="Kind of the source.")
    files: Annotated[tuple[str, ...], Field(min_length=1), SourcePath] = Field(
        description="Paths or globs of the files, relative to the pipeline's folder; at least one."
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Column names, for files without a header; null: read the header."
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        ",", description="The one character between two cells."
    )
    encoding: Encoding = Field(
        "utf-8", description="Name of a Python text encoding; a byte-order mark overrides it."
    )
    skip_lines: Annotated[int, Field(ge=0)] = Field(
        0, description="Lines before the header to skip, such as a title; at least 0."
    )
    is_stripped: bool = Field(True, description="Whether white space around each cell is removed.")
    missing: tuple[str, ...] = Field(("",), description="Cells that mean 'no value'.")


class ParquetSource(SourceSection, data_state=files_state):
    """Parquet files; their column names must be those of the features and labels."""

    kind: Literal["parquet"] = Field(description="Kind of the source.")
    files: Annotated[tuple[str, ...], Field(min_length=1), SourcePath] = Field(
        description="Paths or globs of the files, relative to the pipeline's folder; at least one."
    )


class IdxSource(SourceSection, data_state=files_state):
    """A pair of IDX files as MNIST uses (gzip or plain): columns `image` and `label`."""

    kind: Literal["idx"] = Field(description="Kind of the source.")
    images: Annotated[str, SourcePath] = Field(description="Path of the IDX file of images.")
    labels: Annotated[str, SourcePath] = Field(description="Path of the IDX file of labels.")


class SklearnSource(SourceSection, data_state=shipped_state):
    """A data set that ships inside scikit-learn; images are column `image`, labels `label`."""

    kind: Literal["sklearn"] = Field(description="Kind of the source.")
    dataset: Literal["digits", "iris", "wine", "breast_cancer"] = Field(
        description="Name of the data set in scikit-learn."
    )


Source = Annotated[
    CsvSource
    | ParquetSource
    | JsonLinesSource
    | ArrowSource
    | OrcSource
    | AvroSource
    | TfRecordSource
    | ImagesSource
    | SqlSource
    | IdxSource
    | SklearnSource,
    Field(discriminator="kind"),
]
SOURCE_KINDS = kinds_of(Source)


class FeatureConfig(Section):
    """One raw input column, as callers send it and `preprocessing_fn` receives it."""

    dtype: Literal["float32", "int64", "string"] = Field(description="Type of the values.")
    shape: tuple[Count, ...] = Field(
        (),
        description="Size of each axis of one example, in values, each at least 1; empty: a "
        "scalar.",
    )
    is_variable_length: bool = Field(
        False, description="Whether the value is a list of any length (words, ids)."
    )
    separator: str = Field(" ", description="Text between the items of a list in a CSV cell.")
    default: Scalar | None = Field(
        None,
        description="Value that replaces a missing one, any value of the dtype, in the column's "
        "own unit; null: a missing value is an error.",
    )
    minimum: float | None = Field(
        None,
        description="Smallest valid value, any number up to `maximum`, in the column's own unit; "
        "null: learned from the first run.",
    )
    maximum: float | None = Field(
        None,
        description="Largest valid value, any number from `minimum` on, in the column's own unit; "
        "null: learned from the first run.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_variable_length and self.shape:
            raise ValueError("a variable-length feature has no shape; remove one of the two")
        if self.default is not None and (self.shape or self.is_variable_length):
            raise ValueError("only a scalar feature can have a default")
        wanted = {"float32": (int, float), "int64": (int,), "string": (str,)}[self.dtype]
        if self.default is not None and (
            isinstance(self.default, bool) or not isinstance(self.default, wanted)
        ):
            raise ValueError(f"default {self.default!r} is not a {self.dtype}")
        if isinstance(self.default, int) and not -(2**63) <= self.default < 2**63:
            raise ValueError(f"default {self.default} is beyond int64")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class HeadConfig(Section):
    """One thing the model predicts."""

    task: Literal["binary_classification", "multiclass_classification", "regression"] = Field(
        description="What kind of value is predicted."
    )
    column: str = Field("", description="Column of the label; empty: the head's own name.")
    classes: tuple[ClassName, ...] = Field(
        (),
        description="Labels as text, in the order of the model's outputs; of two classes the "
        "second is the positive one.",
    )
    strip: str = Field(
        "", description="Characters removed from both ends of the label ('.' for census)."
    )
    label_map: dict[str, ClassName] = Field(
        {},
        description="Classes of labels that are not named as their class is, such as `{yes: 1, no: "
        "0}`; a label that is neither here nor in `classes` makes a bad row.",
    )
    loss_weight: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="Factor of this head's loss in the sum of all heads, no unit, above 0."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task == "regression" and self.classes:
            raise ValueError("a regression head has no classes")
        if self.task == "binary_classification" and len(self.classes) != 2:
            raise ValueError(f"needs exactly 2 classes, found {len(self.classes)}")
        if self.task == "multiclass_classification" and len(self.classes) < 2:
            raise ValueError(f"needs at least 2 classes, found {len(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes repeat")
        for label, name in self.label_map.items():
            if name not in self.classes:
                raise ValueError(
                    f"label_map: '{label}' is mapped to '{name}', which is not in classes"
                    f"{did_you_mean(name, self.classes)}"
                )
            if label in self.classes and label != name:
                raise ValueError(
                    f"label_map: '{label}' is a class itself and cannot be mapped to '{name}'"
                )
        return self

    @property
    def output_size(self) -> int:
        """Width of the model's output for this head: 1 for binary (a logit) and regression."""
        return len(self.classes) if self.task == "multiclass_classification" else 1


class BeamConfig(Section):
    """Where Beam runs; any runner that Beam knows by name."""

    runner: str = Field("DirectRunner", description="Name of a Beam runner.")
    options: tuple[str, ...] = Field(
        (), description="Pipeline options of Beam, each as '--name=value'."
    )


SOURCE_KEYS = ("source", "test_source")  # of `ingest`


class IngestConfig(Section):
    """Raw data to sharded TFRecords of raw examples."""

    source: Source = Field(description="Where the rows are read from.")
    test_source: Source | None = Field(
        None, description="Separate source of the test split; null: it is split off from `source`."
    )
    split: SplitConfig = Field(
        SplitConfig(), description="What decides a row's split, and the shares of the splits."
    )
    shard_size_mb: Annotated[float, Field(gt=0.0)] = Field(
        64.0, description="Size of a TFRecord shard in megabytes, above 0."
    )
    max_bad_ratio: Ratio = Field(
        0.01, description="Share of bad rows above which the step fails, from 0 to 1."
    )
    beam: BeamConfig = Field(BeamConfig(), description="Beam runner of this step.")

    @property
    def sources(self) -> dict[str, Source]:
        """The sources that are there, by their dotted keys."""
        found = {f"ingest.{key}": getattr(self, key) for key in SOURCE_KEYS}
        return {key: source for key, source in found.items() if source is not None}


AnomalyKind = Literal[
    "missing_column",
    "type",
    "range",
    "missing",
    "new_category",
    "drift",
    "missing_class",
    "split_difference",
    "repeated_rows",
    "parted_groups",
    "leaking_feature",
]


class ValidateConfig(Section):
    """Limits on what may differ from the schema in force and the last run's statistics."""

    max_missing_ratio: Ratio = Field(
        0.5,
        description="Share of rows without a value, from 0 to 1, above which a feature is an "
        "anomaly.",
    )
    max_drift: Ratio = Field(
        0.25,
        description="Jensen-Shannon distance (base 2, no unit) to the last run's distribution, "
        "from 0 to 1, above which a feature has drifted.",
    )
    max_new_category_ratio: Ratio = Field(
        0.05,
        description="Share of values outside the schema's categories, from 0 to 1, above which a "
        "feature is an anomaly.",
    )
    max_split_difference: Ratio = Field(
        0.1,
        description="Jensen-Shannon distance (base 2, no unit) between the labels of eval or test "
        "and those of train, from 0 to 1, above which they differ too far; what chance explains "
        "does not count.",
    )
    max_repeated_ratio: Ratio = Field(
        0.01,
        description="Share of the rows of eval or test, from 0 to 1, that may have the features of "
        "a row of an earlier split.",
    )
    max_single_skill: Ratio = Field(
        0.95,
        description="Share of a constant's error that one feature alone may avoid on the eval "
        "split, from 0 to 1, above which it may leak the label.",
    )
    fail_on: tuple[AnomalyKind, ...] = Field(
        ("missing_column", "type"),
        description="Kinds of anomalies that fail the run; the others are reported.",
    )


Compression = Literal["gzip", "none"]  # of TFRecord shards


class TransformConfig(Section):
    """The full pass of tf.Transform over the data."""

    beam: BeamConfig = Field(BeamConfig(), description="Beam runner of this step.")
    shard_size_mb: Annotated[float, Field(gt=0.0)] = Field(
        64.0, description="Size of a TFRecord shard in megabytes, above 0."
    )
    compression: Compression = Field(
        "gzip",
        description="Compression of the shards; 'none' reads faster where they do not fit into "
        "memory.",
    )
