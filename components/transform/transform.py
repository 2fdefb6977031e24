"""tf.Transform's full pass: analyse the train split, transform every part, keep the graph."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_transform.beam as tft_beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.transforms.combiners import ToList
from tensorflow_transform import TFTransformOutput
from tensorflow_transform.beam.tft_beam_io.transform_fn_io import WriteTransformFn

from components.data.beam_pipelines import running_pipeline
from components.data.canonical_files import rewrite_json, rewrite_saved_model
from components.data.raw_columns import ID, WEIGHT
from components.data.shards import broken_shard, check_shards
from components.data.tfrecord_shards import name_shards
from components.models.user_code import blamed_on_user, library_refusals
from components.transform.preprocessing import load_preprocessing
from components.transform.raw_tensors import SPLIT, feature_tensors
from components.transform.refusals import Refusal, noting_refusals, take_refusal
from components.transform.stages import ReadShard, Shard, WriteShards
from contract.errors import DataError, SlipwayError, UserCodeError
from contract.model_io import label_key, slice_key
from contract.records.data import TransformRecord
from contract.schema.pipeline import PipelineConfig

GRAPH = "transform_graph"
EXAMPLES = "examples"
_SUMMARY = "written.json"

_WHERE = "preprocessing.py: preprocessing_fn"
_CHANGED_ROWS = "Cannot pass-through data"


@dataclass(frozen=True)
class RawData:
    """Raw shards by split, and how many rows ingestion wrote to each."""

    shards: Mapping[str, Sequence[Path]]
    examples: Mapping[str, int]


def transform(config: PipelineConfig, code: Path, data: RawData, output: Path) -> TransformRecord:
    """Run `preprocessing_fn` over all splits; write the graph and shards to `output`.

    Means, vocabularies and other full-pass results come from the train split alone.

    Args:
        code: The folder that holds `preprocessing.py`.
        output: An empty folder.

    Raises:
        UserCodeError: If `preprocessing_fn` raises, returns the wrong thing or fails on the data.
        DataError: If a raw shard is missing or damaged.
    """
    for shards in data.shards.values():
        check_shards(shards)
    preprocessing_fn = load_preprocessing(code)
    (output / EXAMPLES).mkdir()
    with (
        tempfile.TemporaryDirectory(prefix=".tft-", dir=output) as temporary,
        tft_beam.Context(temp_dir=temporary, passthrough_keys=passthrough_keys(config) | {SPLIT}),
    ):
        written = _run(config, preprocessing_fn, data, output)
        _rewrite_graph(output / GRAPH)  # here: the vocabularies that it names are still there
    return _gather(config, output, written, data)


def passthrough_keys(config: PipelineConfig) -> set[str]:
    """Return the columns that transformed examples have beside the features."""
    keys = {ID, *(label_key(head) for head in config.heads)}
    keys |= {slice_key(name) for name in config.evaluate.slices}
    return keys | ({WEIGHT} if config.weight is not None else set())


# --- inside -------------------------------------------------------------------------------------


def _run(
    config: PipelineConfig,
    preprocessing_fn: Callable[..., dict[str, Any]],
    data: RawData,
    output: Path,
) -> list[Shard]:
    summary = output / _SUMMARY
    try:
        beam_config = config.transform.beam
        with (
            running_pipeline(beam_config, "transform") as pipeline,
            noting_refusals(output),
            library_refusals(_WHERE, "tensorflow_transform"),  # while it is built: no row is read
        ):
            _build(pipeline, config, preprocessing_fn, data, output)
    except (SlipwayError, MemoryError):
        raise
    except Exception as error:
        raise _explained(error, data, take_refusal(output)) from error
    take_refusal(output)  # of a batch that went through when Beam tried it again
    shards = [Shard(**entry) for entry in json.loads(summary.read_text(encoding="utf-8"))]
    summary.unlink()
    return sorted(shards)


def _build(
    pipeline: beam.Pipeline,
    config: PipelineConfig,
    preprocessing_fn: Callable[..., dict[str, Any]],
    data: RawData,
    output: Path,
) -> None:
    """Add the analysis of `train`, then the transformation of every split, to the pipeline."""

    def read(label: str, splits: Iterable[str]) -> "PCollection[Any]":
        # Analysis reads by itself: between two consumers Beam would hold all rows in memory.
        shards = [(split, shard) for split in splits for shard in data.shards[split]]
        paths = pipeline | f"Shards[{label}]" >> beam.Create(shards)
        batches: PCollection[Any] = paths | f"ReadShard[{label}]" >> beam.ParDo(ReadShard(config))
        return batches

    tensors = feature_tensors(config)
    analysed = (read("analyze", ["train"]), tensors) | tft_beam.AnalyzeDataset(preprocessing_fn)
    _ = analysed | "WriteGraph" >> WriteTransformFn(str(output / GRAPH))
    rows, metadata = (
        (read("transform", data.shards), tensors),
        analysed,
    ) | tft_beam.TransformDataset(output_record_batches=True)
    writer = WriteShards(output / EXAMPLES, config.transform)
    _ = (
        rows
        | "WriteShards" >> beam.ParDo(writer, AsSingleton(metadata.deferred_metadata))
        | "Gather" >> ToList()
        | "WriteSummary" >> beam.Map(_write_summary, output / _SUMMARY)
    )


def _rewrite_graph(graph: Path) -> None:
    """Bring what tf.Transform wrote into canonical form: equal data, equal bytes."""
    rewrite_saved_model(graph / TFTransformOutput.TRANSFORM_FN_DIR)
    assets = graph / TFTransformOutput.TRANSFORMED_METADATA_DIR / TFTransformOutput.ASSET_MAP
    if assets.exists():
        rewrite_json(assets)


def _write_summary(shards: list[Shard], path: Path) -> None:
    path.write_text(json.dumps([asdict(shard) for shard in shards]), encoding="utf-8")


def _gather(
    config: PipelineConfig, output: Path, written: Sequence[Shard], data: RawData
) -> TransformRecord:
    """Name the shards for good and check that no row was lost."""
    names: dict[str, tuple[str, ...]] = {}
    examples: dict[str, int] = {}
    for split, expected in data.examples.items():
        mine = [shard for shard in written if shard.split == split]
        paths = [shard.path for shard in mine]
        final = name_shards(output / EXAMPLES, split, paths, config.transform.compression)
        names[split] = tuple(f"{EXAMPLES}/{name}" for name in final)
        examples[split] = sum(shard.rows for shard in mine)
        if examples[split] != expected:
            raise DataError(
                f"transform: split '{split}': {examples[split]:,} rows came through of "
                f"{expected:,} that were ingested: a raw shard is truncated. Delete the run's "
                "'ingest' folder and run it again."
            )
    return TransformRecord(transform_graph=GRAPH, shards=names, examples=examples)


def _explained(error: Exception, data: RawData, refusal: Refusal | None) -> Exception:
    """Return what a failed pipeline means: broken shards, the user's graph, or neither."""
    shards = [shard for shards in data.shards.values() for shard in shards]
    if problem := broken_shard(shards):
        return DataError(problem)
    if _CHANGED_ROWS in str(error):
        return UserCodeError(f"{_WHERE}: changed the number of rows; expected one output per row")
    if refusal is not None:
        return UserCodeError(f"{_WHERE}: failed on the data: {refusal.reason}")
    return blamed_on_user(_WHERE, error) or error
