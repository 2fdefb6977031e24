"""Batch inference: a file of rows through a package's model, by Beam.

The answers have one row per usable row of the input, in its order: `row` (its number, from 1), the
key columns that were asked for, per head `<head>` (the most likely class, or the value) and per
class `<head>:<class>`, its probability. Rows that cannot be used are in `<target>.bad.jsonl`, each
with its number, its reason and, for a CSV file, its line.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.data.beam_pipelines import running_pipeline
from components.data.raw_examples import Array
from components.data.raw_rows import BadRow, json_text
from components.models.saved_models import load, predict_examples
from components.models.score_keys import check_names, key_types
from components.models.scoring_formats import (
    READABLE,
    WRITABLE,
    ExampleRows,
    extension,
    read_rows,
    write_answers,
)
from contract.errors import DataError, UserError
from contract.layout import PACKAGE_MANIFEST
from contract.records.package import InputSpec, PackageManifest
from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig
from contract.storage import storage_errors, write_atomically

_FAILED = "failed"


@dataclass(frozen=True)
class Scoring:
    """What to score: a package directory, the pipeline's config, a file in and a file out.

    `keys` are columns of the file in that the file out repeats.
    """

    package: Path
    config: PipelineConfig
    source: Path
    target: Path
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreReport:
    """What came of it; `bad_rows_file` is None where every row was usable."""

    version: int
    rows: int
    bad_rows: int
    bad_rows_file: Path | None


def score(scoring: Scoring) -> ScoreReport:
    """Write the package's answers to all rows of `source` to `target`, which appears whole.

    Formats go by extension: in CSV (as the pipeline's own), Parquet, TFRecord of raw examples; out
    CSV, JSON lines, Parquet, TFRecord.

    Raises:
        DataError: If the file is missing, empty or broken, lacks a feature's or a key's column or
            has no usable row; or if the package's inputs are not the config's.
        NotFoundError: If the package is missing.
        UserError: If an extension is unknown, or a key has the name of another column.
    """
    kind = extension(scoring.target, WRITABLE)
    extension(scoring.source, READABLE)
    manifest = PackageManifest.read(scoring.package / PACKAGE_MANIFEST)
    _check_inputs(manifest, scoring.config)
    check_names(scoring.keys, _schema(manifest.heads).names)
    schema = _schema(manifest.heads, key_types(scoring.source, scoring.keys))
    target = scoring.target
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as name:
            parts = Path(name)
            bad = _run(scoring, manifest, schema, parts)
            tables = sorted(parts.glob("*.parquet"))
            rows = sum(pq.read_metadata(part).num_rows for part in tables)
            if not rows:
                raise DataError(_nothing_usable(scoring.source, bad))
            whole = parts / f"whole{kind}"
            write_answers(whole, kind, map(pq.read_table, tables), schema)
            bad_file = _write_bad_rows(target, bad)
            whole.replace(target)
    return ScoreReport(manifest.version, rows, len(bad), bad_file)


def _run(
    scoring: Scoring, manifest: PackageManifest, schema: pa.Schema, parts: Path
) -> list[dict[str, Any]]:
    """Run the pipeline; return the bad rows in order. Answers lie in `parts`, one file a batch."""
    with running_pipeline(scoring.config.ingest.beam, "score") as pipeline:
        batches = (
            pipeline
            | "File" >> beam.Create([scoring.source])
            | "ReadRows" >> beam.ParDo(ReadRows(scoring)).with_outputs(_FAILED, main="rows")
        )
        scored = (
            batches.rows
            | "SpreadBatches" >> beam.Reshuffle()
            | "Answer" >> beam.ParDo(Answer(scoring, manifest, schema, parts))
        )
        _ = scored | "WriteBadRows" >> beam.Map(_write_bad_part, parts)
        _ = batches[_FAILED] | "WriteFailure" >> beam.Map((parts / _FAILED).write_text)
    if (parts / _FAILED).exists():
        raise DataError((parts / _FAILED).read_text(encoding="utf-8"))
    files = sorted(parts.glob("*.bad"))
    return [json.loads(line) for f in files for line in f.read_text(encoding="utf-8").splitlines()]


class ReadRows(beam.DoFn):  # type: ignore[misc]
    """Reads a file to batches of examples; a broken one becomes a message in the output `failed`.

    An error raised in Beam would come back as a RuntimeError that says it in a thousand lines.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._config, self._keys = scoring.config, scoring.keys

    def process(self, path: Path) -> Iterator[Any]:
        try:
            yield from read_rows(path, self._config, self._keys)
        except UserError as error:
            yield beam.pvalue.TaggedOutput(_FAILED, str(error))


class Answer(beam.DoFn):  # type: ignore[misc]
    """Asks the model; writes the answers as a part; emits the batch's number and bad rows."""

    def __init__(
        self,
        scoring: Scoring,
        manifest: PackageManifest,
        schema: pa.Schema,
        parts: Path,
    ) -> None:
        # Not what the config says now: the heads that the package was made with.
        self._config = scoring.config.model_copy(update={"heads": manifest.heads})
        self._path, self._heads = scoring.package / manifest.model, manifest.heads
        self._schema, self._source, self._parts = schema, str(scoring.source), parts

    def setup(self) -> None:
        self._model: Any = None
        try:
            self._model = load(self._path)
        except UserError as error:  # as in ReadRows; here nothing can be emitted yet
            (self._parts / _FAILED).write_text(str(error), encoding="utf-8")

    def process(self, batch: ExampleRows) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        if self._model is None:
            return
        rows, keys, bad = np.array(batch.rows, np.int64), batch.keys, batch.bad
        examples = np.array(batch.examples, object)
        try:
            scores = self._ask(examples)
        except tf.errors.InvalidArgumentError:
            refusals = [self._refusal(example) for example in examples]
            bad += tuple(
                BadRow(self._source, int(row), "not an example of this model", refusal, None)
                for row, refusal in zip(rows, refusals, strict=True)
                if refusal
            )
            is_usable = np.array([not refusal for refusal in refusals])
            rows, scores = rows[is_usable], self._ask(examples[is_usable])
            keys = {name: column.filter(pa.array(is_usable)) for name, column in keys.items()}
        if len(rows):
            columns = {"row": rows, **keys, **_columns(scores, self._heads)}
            table = pa.table(columns, schema=self._schema)
            pq.write_table(table, self._parts / f"{batch.number:09d}.parquet")
        yield batch.number, [_described(row, batch.lines) for row in bad]

    def _ask(self, examples: Array) -> dict[str, Array]:
        return predict_examples(self._model, examples.tolist(), self._config)

    def _refusal(self, example: bytes) -> str:
        """Return what is wrong with one example; empty if nothing is."""
        try:
            self._ask(np.array([example], object))
        except tf.errors.InvalidArgumentError as error:
            return str(error.message).splitlines()[0]
        return ""


def _described(bad: BadRow, lines: Mapping[int, int]) -> dict[str, Any]:
    line = {"line": lines[bad.row]} if bad.row in lines else {}
    return asdict(bad) | line


def _write_bad_part(batch: tuple[int, list[dict[str, Any]]], parts: Path) -> None:
    number, bad = batch
    if bad:
        lines = (json.dumps(row, default=json_text) + "\n" for row in bad)
        (parts / f"{number:09d}.bad").write_text("".join(lines), encoding="utf-8")


def _write_bad_rows(target: Path, bad: list[dict[str, Any]]) -> Path | None:
    path = target.with_name(f"{target.name}.bad.jsonl")
    if not bad:
        path.unlink(missing_ok=True)  # of an earlier run
        return None
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in bad))
    return path


def _columns(scores: Mapping[str, Array], heads: Mapping[str, HeadConfig]) -> dict[str, Array]:
    columns: dict[str, Array] = {}
    for name, head in heads.items():
        if head.task == "regression":
            columns[name] = scores[name]
            continue
        columns[name] = np.array(head.classes, object)[scores[name].argmax(axis=1)]
        columns |= {f"{name}:{c}": scores[name][:, i] for i, c in enumerate(head.classes)}
    return columns


def _schema(
    heads: Mapping[str, HeadConfig], keys: Mapping[str, pa.DataType] = MappingProxyType({})
) -> pa.Schema:
    fields = [("row", pa.int64()), *keys.items()]
    for name, head in heads.items():
        fields.append((name, pa.float32() if head.task == "regression" else pa.string()))
        fields += [(f"{name}:{c}", pa.float32()) for c in head.classes]
    return pa.schema(fields)


def _check_inputs(manifest: PackageManifest, config: PipelineConfig) -> None:
    wanted = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    differing = sorted(
        n for n in wanted.keys() | manifest.inputs.keys() if wanted.get(n) != manifest.inputs.get(n)
    )
    if differing:
        raise DataError(
            f"{manifest.pipeline}: version {manifest.version} has other inputs than pipeline.yaml "
            f"({', '.join(differing)}); score with a version that was made from it"
        )


def _nothing_usable(source: Path, bad: list[dict[str, Any]]) -> str:
    if not bad:
        return f"{source}: no rows"
    first = f"row {bad[0]['row']}: {bad[0]['reason']}"
    return f"{source}: none of {len(bad)} rows is usable; the first, {first}"
