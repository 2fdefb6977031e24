"""The skew check: the trained model offline and the package over HTTP must answer alike."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tensorflow as tf

from components.data.examples import feature_spec, model_inputs
from components.data.raw_columns import ID
from components.data.raw_examples import Array, RawColumns, read_raw, to_rows
from components.data.shards import check_shards
from components.data.tfrecord_shards import compression_type
from components.models.answer_differences import differences
from components.models.checkpoints import load_weights
from components.models.saved_models import load, predict_columns
from components.models.user_model import build_model, head_outputs, head_scores
from contract.clients.http import Client, open_client
from contract.errors import DataError, SlipwayError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.model_io import output_name
from contract.records.data import IngestRecord, TransformRecord
from contract.records.evaluation import BlessRecord
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig

REQUEST_ROWS = 16
_BATCH_ROWS = 512
_SHOWN_ROWS = 3
_CHANCE = 1e-3
_SHOWN_CHARACTERS = 300
REQUEST_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class SkewCheck:
    """Rows of the test split, and what the trained model answers to them offline.

    The offline side shares no code with the package: transformed examples as Beam wrote them, the
    Keras model with its checkpoint's weights. The two are matched by `example_id`.
    """

    config: PipelineConfig
    columns: RawColumns
    expected: Mapping[str, Array]  # by head, rows as in `columns`

    @classmethod
    def of_run(cls, run: RunLayout, rows: int) -> "SkewCheck":
        """Compute the offline answers to the first `rows` rows of the run's test split.

        Raises:
            NotFoundError, DataError: If the run's artifacts are gone.
        """
        config = load_frozen(run)
        ingested = Result.read(run.result("ingest")).detail_as(IngestRecord)
        shards = [run.step("ingest") / shard for shard in ingested.shards["test"]]
        check_shards(shards)
        columns = read_raw(shards, config, limit=rows)
        if not len(columns):
            raise DataError(f"{run.step('ingest')}: split 'test' has no rows; check ingest.split")
        return cls(config, columns, _offline(run, config, columns.ids))

    def require(
        self, predict_url: str, tolerance: float, attempts: int = 1, exempt_rows: int = 0
    ) -> float:
        """Send the rows over HTTP and return the largest difference to the offline answers.

        A difference is absolute where the offline value is below 1 in magnitude, relative above.

        Args:
            predict_url: The server's `:predict`.
            tolerance: The largest difference that is not skew.
            attempts: How often a request that the server fails (5xx) is tried.
            exempt_rows: How many rows may differ by more.

        Raises:
            DataError: If it is above `tolerance` in other rows; with the rows that differ most.
        """
        answers = self._served(predict_url, attempts)
        return self._require(answers, "over HTTP", tolerance, exempt_rows)

    def require_of_model(self, path: Path, tolerance: float) -> float:
        """Call a SavedModel with the rows and return the largest difference, as `require` does.

        For what serves other answers within its own tolerance (an engine that is not
        TensorFlow, weights in int8): the model that it was made from must be the trained one.
        """
        answers = predict_columns(load(path), self.columns, self.config)
        return self._require(answers, f"from {path.name}/", tolerance)

    def _require(
        self, answers: Mapping[str, Array], origin: str, tolerance: float, exempt_rows: int = 0
    ) -> float:
        differences = self._differences(answers)
        worst = np.argsort(-differences)[:_SHOWN_ROWS]
        largest = float(differences[worst[0]])
        if np.sum(~(differences <= tolerance)) <= exempt_rows and np.isfinite(largest):
            return largest
        rows = to_rows(self.columns)
        shown = "; ".join(
            f"example_id {_text(self.columns.ids[i])}: differs by {differences[i]:.3g}, features "
            f"{json.dumps(rows[i])[:_SHOWN_CHARACTERS]}"
            for i in worst
            if not differences[i] <= tolerance
        )
        raise DataError(
            f"training/serving skew: {np.sum(~(differences <= tolerance))} of {len(rows)} rows get "
            f"another answer {origin} than from the trained model offline, by up to {largest:.3g} "
            f"({tolerance:g} is allowed): {shown}"
        )

    def _differences(self, answers: Mapping[str, Array]) -> Array:
        """Return the largest difference of each row over all heads, float64 `[rows]`."""
        per_head = []
        for head, expected in self.expected.items():
            rows = expected.reshape(len(expected), -1)
            per_head.append(differences(rows, answers[head].reshape(rows.shape)))
        return np.asarray(np.max(np.concatenate(per_head, axis=1), axis=1))

    def _served(self, predict_url: str, attempts: int) -> dict[str, Array]:
        """Return what the server answers to the rows, by head, float64."""
        rows, answers = to_rows(self.columns), list[Any]()
        with open_client(predict_url, REQUEST_TIMEOUT_SECONDS) as http:
            for start in range(0, len(rows), REQUEST_ROWS):
                part = {"instances": rows[start : start + REQUEST_ROWS]}
                answers += predictions(http, predict_url, part, attempts)
        heads = self.config.heads
        if len(heads) == 1:
            return {next(iter(heads)): np.array(answers, np.float64)}
        names = {head: output_name(head, heads) for head in heads}
        return {h: np.array([a[name] for a in answers], np.float64) for h, name in names.items()}


def exempt_rows(rows: int, ratio: float) -> int:
    """Return how many of some rows may differ by more than the tolerance, if `ratio` of all do.

    The most that chance makes of it, but for one time in a thousand: a quantile of the binomial
    distribution.
    """
    if ratio <= 0.0 or ratio >= 1.0:
        return rows if ratio > 0.0 else 0
    below = 0.0
    for count in range(rows + 1):
        ways = math.lgamma(rows + 1) - math.lgamma(count + 1) - math.lgamma(rows - count + 1)
        chances = count * math.log(ratio) + (rows - count) * math.log1p(-ratio)
        below += math.exp(ways + chances)
        if below >= 1.0 - _CHANCE:
            return count
    return rows


def predictions(
    http: Client, predict_url: str, body: Mapping[str, Any], attempts: int
) -> list[Any]:
    """Return a server's predictions; a request that it fails (5xx) is tried `attempts` times.

    Raises:
        SlipwayError: If it does not answer with 200; with its words.
    """
    for _ in range(attempts):
        answer = http.post(predict_url, json=body)
        if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
            break
    if answer.status_code != httpx.codes.OK:
        raise SlipwayError(
            f"skew check: {predict_url} answered {answer.status_code}: {answer.text[:300]}"
        )
    return list(answer.json()["predictions"])


def _offline(run: RunLayout, config: PipelineConfig, ids: Array) -> dict[str, Array]:
    """Return the trained model's answers to the examples with these ids, in their order."""
    record = Result.read(run.result("transform")).detail_as(TransformRecord)
    folder = run.step("transform")
    graph = folder / record.transform_graph
    model = build_model(config, run.frozen_pipeline, graph)
    blessed = Result.read(run.result("bless")).detail_as(BlessRecord)
    load_weights(model, run, blessed.step)
    spec = feature_spec(graph)
    found: dict[bytes, dict[str, Array]] = {}
    for columns in _transformed(folder, record, spec, frozenset(ids.tolist())):
        inputs = model_inputs({name: columns[name] for name in spec})
        scores = head_scores(config, head_outputs(model, config, inputs, training=False))
        arrays = {head: score.numpy() for head, score in scores.items()}
        for row, identity in enumerate(columns[ID].numpy().tolist()):
            found[identity] = {head: array[row] for head, array in arrays.items()}
    if lost := [identity for identity in ids.tolist() if identity not in found]:
        raise DataError(
            f"{folder}: {len(lost)} of {len(ids)} raw test rows are not among the transformed "
            f"examples (first: {_text(lost[0])}); run 'transform' again"
        )
    return {h: np.stack([found[identity][h] for identity in ids.tolist()]) for h in config.heads}


def _transformed(
    folder: Path, record: TransformRecord, spec: Mapping[str, Any], ids: frozenset[bytes]
) -> Iterator[dict[str, Any]]:
    """Yield the columns of the wanted transformed examples of the test split, batch by batch."""
    shards = [folder / shard for shard in record.shards["test"]]
    check_shards(shards)
    whole_spec = {**spec, ID: tf.io.FixedLenFeature([], tf.string)}
    paths, compression = [str(shard) for shard in shards], compression_type(shards[0])
    for batch in tf.data.TFRecordDataset(paths, compression).batch(_BATCH_ROWS):
        columns = tf.io.parse_example(batch, whole_spec)
        is_wanted = np.isin(columns[ID].numpy(), list(ids))
        if is_wanted.any():
            wanted = tf.boolean_mask(batch, is_wanted)
            yield tf.io.parse_example(wanted, whole_spec)


def _text(identity: bytes) -> str:
    return identity.decode(errors="replace")
