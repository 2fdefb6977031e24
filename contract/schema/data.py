"""Sections about the data: where it lies, what it means, how it is read, checked, prepared."""

import codecs
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from contract.errors import did_you_mean
from contract.schema.section import Count, Ratio, Scalar, Section
from contract.schema.source import (
    SourcePath,
    SourceSection,
    files_state,
    kinds_of,
    shipped_state,
)

SPLITS = ("train", "eval", "test")

# Codecs of Python that are no encodings of files; those of Windows alone are not everywhere.
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
    """Comma-separated text, one row a line; gzip, bz2, xz, zstd and lz4 are unpacked."""

    kind: Literal["csv"]
    files: Annotated[
        tuple[str, ...], Field(min_length=1, description="Paths or globs."), SourcePath
    ]
    columns: tuple[str, ...] | None = Field(
        None, description="Names, where the file has no header."
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: Encoding = Field(
        "utf-8", description="A name that Python knows; a byte-order mark says more than it."
    )
    skip_lines: Annotated[int, Field(ge=0)] = Field(
        0, description="Lines before the header, such as a title."
    )
    is_stripped: bool = Field(True, description="Remove white space around each cell.")
    missing: tuple[str, ...] = Field(("",), description="Cells that mean 'no value'.")


class ParquetSource(SourceSection, data_state=files_state):
    """Parquet files; their column names must be those of the features and labels."""

    kind: Literal["parquet"]
    files: Annotated[
        tuple[str, ...], Field(min_length=1, description="Paths or globs."), SourcePath
    ]


class IdxSource(SourceSection, data_state=files_state):
    """A pair of IDX files as MNIST uses (gzip or plain): columns `image` and `label`."""

    kind: Literal["idx"]
    images: Annotated[str, SourcePath]
    labels: Annotated[str, SourcePath]


class SklearnSource(SourceSection, data_state=shipped_state):
    """A data set that ships inside scikit-learn; images are column `image`, labels `label`."""

    kind: Literal["sklearn"]
    dataset: Literal["digits", "iris", "wine", "breast_cancer"]


Source = Annotated[
    CsvSource | ParquetSource | IdxSource | SklearnSource, Field(discriminator="kind")
]
SOURCE_KINDS = kinds_of(Source)


class FeatureConfig(Section):
    """One raw input column, as callers will send it and `preprocessing_fn` will receive it."""

    dtype: Literal["float32", "int64", "string"]
    shape: tuple[Count, ...] = Field((), description="Shape of one example; () is a scalar.")
    is_variable_length: bool = Field(False, description="A list of any length (words, ids).")
    separator: str = Field(" ", description="What separates the items of a list in a CSV cell.")
    default: Scalar | None = Field(
        None,
        description="Used where the value is missing; without one a missing value is an error.",
    )
    minimum: float | None = None
    maximum: float | None = None

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

    task: Literal["binary_classification", "multiclass_classification", "regression"]
    column: str = Field("", description="The label's column; the head's own name if empty.")
    classes: tuple[ClassName, ...] = Field(
        (), description="Labels in order of the model's outputs, as text; the second is 'positive'."
    )
    strip: str = Field("", description="Characters removed around the label ('.' for census).")
    loss_weight: Annotated[float, Field(gt=0.0)] = 1.0

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
        return self

    @property
    def output_size(self) -> int:
        """Width of the model's output for this head: 1 for binary (a logit) and regression."""
        return len(self.classes) if self.task == "multiclass_classification" else 1


class SplitConfig(Section):
    """How rows are shared out, for ever, by a hash of their key."""

    train: Ratio = 0.8
    eval: Ratio = 0.1
    test: Ratio = 0.1
    key: str | None = Field(None, description="Column whose hash decides; the whole row if null.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.eval + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + eval + test must be 1.0, found {total:g}")
        if self.train == 0.0 or self.eval == 0.0:
            raise ValueError("train and eval must be above 0")
        return self


class BeamConfig(Section):
    """Where Beam runs; any runner that Beam knows by name."""

    runner: str = "DirectRunner"
    options: tuple[str, ...] = Field((), description="Beam pipeline options, as '--name=value'.")


SOURCE_KEYS = ("source", "test_source")  # of `ingest`


class IngestConfig(Section):
    """Raw data to sharded TFRecords of raw examples."""

    source: Source
    test_source: Source | None = Field(None, description="A file of its own as the test part.")
    split: SplitConfig = SplitConfig()
    shard_size_mb: Annotated[float, Field(gt=0.0)] = 64.0
    max_bad_ratio: Ratio = Field(0.01, description="More bad rows than this fail the step.")
    beam: BeamConfig = BeamConfig()

    @property
    def sources(self) -> dict[str, Source]:
        """The sources that are there, by their dotted keys."""
        found = {f"ingest.{key}": getattr(self, key) for key in SOURCE_KEYS}
        return {key: source for key, source in found.items() if source is not None}


class ValidateConfig(Section):
    """Limits on what may differ from the schema in force and the last run's statistics."""

    max_missing_ratio: Ratio = 0.5
    max_drift: Ratio = Field(
        0.25, description="Jensen-Shannon distance (base 2) to the last run's distribution, 0..1."
    )
    max_new_category_ratio: Ratio = 0.05
    fail_on: tuple[
        Literal["missing_column", "type", "range", "missing", "new_category", "drift"], ...
    ] = (
        "missing_column",
        "type",
    )


Compression = Literal["gzip", "none"]  # of TFRecord shards


class TransformConfig(Section):
    """tf.Transform's full pass."""

    beam: BeamConfig = BeamConfig()
    shard_size_mb: Annotated[float, Field(gt=0.0)] = 64.0
    compression: Compression = Field(
        "gzip", description="Of the shards; 'none' reads faster where they do not fit the memory."
    )
