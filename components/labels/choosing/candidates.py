"""The rows of the prediction log among which is chosen, as arrays: a million fit into memory."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.labels.choosing.measures import Floats
from components.labels.choosing.sketches import SCALING_ROWS, Sketches
from components.labels.predicted_rows import REQUEST_ID, ROW, Place, log_folders
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.prediction_log.columns import INPUT, SCORES
from contract.prediction_log.reading import read_tables
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")

# A shadow's answers reach nobody; callers who name a version have chosen their rows.
_ANSWERED = ("stable", "canary")
_SHADOW = ("shadow",)
_ARRAYS = ("rows", "versions", "days", "scores", "sketches")


class NothingToAskError(DataError):
    """No row of the log can be asked about in the given time."""


class NothingLoggedError(NothingToAskError):
    """The log has no row at all in the given time."""


@dataclass(frozen=True)
class Period:
    """Hours of the log that are read, both inclusive; None: all.

    With `is_exact` the rows from one moment on, and before the other one.
    """

    since: datetime | None = None
    until: datetime | None = None
    is_exact: bool = False


@dataclass(frozen=True)
class Candidates:
    """Rows that callers were answered with, and whose inputs were logged, in the log's order."""

    request_ids: pa.ChunkedArray
    rows: NDArray[np.int32]
    versions: NDArray[np.int32]
    days: NDArray[np.int32]  # since 1970, in UTC
    scores: Floats  # [rows, classes]
    sketches: Floats  # [rows, DIMENSIONS]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The best class of each row."""
        best: NDArray[np.intp] = self.scores.argmax(axis=1)
        return best


def read_candidates(
    layout: PipelineLayout, config: PipelineConfig, head: str, period: Period, sketches: Sketches
) -> Candidates:
    """Read the rows of all versions that have the config's number of classes.

    The first of them set the scales of the sketches.

    Raises:
        NothingLoggedError: If the log has no row at all.
        NothingToAskError: If none has its inputs, or none the number of classes.
    """
    seen = Counter[str]()
    classes = len(config.heads[head].classes)
    usable = _scaled(_usable(layout, config, head, period, seen), sketches)
    parts = [_candidates(table, head, classes, sketches.of(table)) for table in usable]
    rows, others = seen["rows"], seen["others"]
    if not parts and others and not rows:
        raise NothingToAskError(_other_classes(head, classes))
    if not parts:
        error = NothingToAskError if rows else NothingLoggedError
        raise error(_nothing(layout, rows))
    if others:
        log.warning("%d rows are left out: %s", others, _other_classes(head, classes))
    return _first_of_each(_joined(parts))


def _usable(
    layout: PipelineLayout, config: PipelineConfig, head: str, period: Period, seen: Counter[str]
) -> Iterator[pa.Table]:
    """Yield the rows that can be asked about; count all, and those with other classes."""
    classes = len(config.heads[head].classes)
    for table in _tables(layout, head, period, _ANSWERED, [INPUT]):
        is_ours = _has_classes(table, head, classes)
        seen["rows" if is_ours else "others"] += table.num_rows
        found = _with_numbers(_with_inputs(table, config), head, classes) if is_ours else []
        if len(found):
            yield found


def _scaled(tables: Iterator[pa.Table], sketches: Sketches) -> Iterator[pa.Table]:
    """Yield the tables, after the first rows have set the scales."""
    first = list[pa.Table]()
    for table in tables:
        first.append(table)
        if sum(map(len, first)) >= SCALING_ROWS:
            break
    sketches.scale_by(first)
    yield from first
    yield from tables


def shadow_scores(
    layout: PipelineLayout, head: str, period: Period, wanted: Candidates
) -> tuple[NDArray[np.bool_], Floats]:
    """Return which rows a shadow was asked about too, and what it answered (else zeros)."""
    places = pa.table({REQUEST_ID: wanted.request_ids, ROW: wanted.rows})
    places = places.append_column("place", _numbered(len(wanted)))
    found, is_known = np.zeros_like(wanted.scores), np.zeros(len(wanted), np.bool_)
    for table in _tables(layout, head, period, _SHADOW, []):
        if not _has_classes(table, head, wanted.scores.shape[1]):
            continue
        theirs = table.select([REQUEST_ID, ROW]).append_column("at", _numbered(table.num_rows))
        both = theirs.join(places, [REQUEST_ID, ROW], join_type="inner", use_threads=False)
        at, scores = both["place"].to_numpy(), _scores(table, head, wanted.scores.shape[1])
        found[at] = scores[both["at"].to_numpy()]
        is_known[at] = True
    return is_known, found


def logged_scores(
    layout: PipelineLayout, head: str, classes: int, wanted: Collection[Place]
) -> dict[Place, Floats]:
    """Return what callers were answered for some rows: the scores of each, ``[classes]``."""
    ids = pa.array(sorted({place[0] for place in wanted}), pa.string())
    found = dict[Place, Floats]()
    for table in _tables(layout, head, Period(), _ANSWERED, []):
        table = table.filter(pc.is_in(table[REQUEST_ID], ids))
        places = zip(table[REQUEST_ID].to_pylist(), table[ROW].to_pylist(), strict=True)
        scores = _scores(table, head, classes)
        found |= {(one, str(row)): scores[at] for at, (one, row) in enumerate(places)}
    return {place: found[place] for place in wanted if place in found}


def _tables(
    layout: PipelineLayout, head: str, period: Period, arms: tuple[str, ...], more: list[str]
) -> Iterator[pa.Table]:
    """Yield the answered rows of some arms, file by file."""
    fixed = ["time", REQUEST_ID, ROW, "version", "arm", "status"]
    for folder in log_folders(layout):
        columns = [*fixed, SCORES + head, *more]
        for table in read_tables(folder, period.since, period.until, columns):
            if SCORES + head in table.column_names:
                is_wanted = pc.and_(
                    pc.and_(pc.is_in(table["arm"], pa.array(arms)), pc.equal(table["status"], 200)),
                    pc.and_(pc.is_valid(table[SCORES + head]), pc.not_equal(table[REQUEST_ID], "")),
                )
                yield _within(table.filter(is_wanted), period)


def _within(table: pa.Table, period: Period) -> pa.Table:
    """Return the rows of a period that is exact; of hours all."""
    moments = table["time"]
    if period.is_exact and period.since is not None:
        table = table.filter(pc.greater_equal(moments, pa.scalar(period.since, moments.type)))
        moments = table["time"]
    if period.is_exact and period.until is not None:
        table = table.filter(pc.less(moments, pa.scalar(period.until, moments.type)))
    return table


def _with_inputs(table: pa.Table, config: PipelineConfig) -> pa.Table:
    names = [INPUT + name for name in config.features]
    if not set(names) <= set(table.column_names):
        return table.slice(0, 0)
    for name in names:
        table = table.filter(pc.is_valid(table[name]))
    return table


def _with_numbers(table: pa.Table, head: str, classes: int) -> pa.Table:
    """Return the rows whose scores are numbers: of the others nobody knows how sure they are."""
    return table.filter(pa.array(np.isfinite(_scores(table, head, classes)).all(axis=1)))


def _numbered(count: int) -> pa.Array:
    return pa.array(np.arange(count))


def _candidates(table: pa.Table, head: str, classes: int, sketches: Floats) -> Candidates:
    days = table["time"].cast(pa.date32()).cast(pa.int32()).to_numpy()
    rows, versions = table[ROW].to_numpy(), table["version"].to_numpy()
    scores = _scores(table, head, classes)
    return Candidates(table[REQUEST_ID], rows, versions, days, scores, sketches)


def _scores(table: pa.Table, head: str, classes: int) -> Floats:
    lists = table[SCORES + head].combine_chunks()
    numbers: Floats = lists.flatten().to_numpy(zero_copy_only=False)
    if len(numbers) != table.num_rows * classes:
        raise DataError(_other_classes(head, classes))
    return numbers.reshape(-1, classes)


def _has_classes(table: pa.Table, head: str, classes: int) -> bool:
    """Tell whether each row, all of one version, has a score for each class of the config."""
    lengths = pc.list_value_length(table[SCORES + head])
    return not pc.any(pc.not_equal(lengths, classes)).as_py()


def _other_classes(head: str, classes: int) -> str:
    return (
        f"head '{head}': the prediction log has another number of classes than the config "
        f"({classes}); choose among the versions that were trained with this config (--since)"
    )


def _joined(parts: list[Candidates]) -> Candidates:
    ids = pa.chunked_array([c for part in parts for c in part.request_ids.chunks], pa.string())
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Candidates(request_ids=ids, **arrays)


def _first_of_each(found: Candidates) -> Candidates:
    """Return the rows without those whose id and number an earlier one has: a label names both."""
    codes = found.request_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    keys = codes.astype(np.int64) << 32 | found.rows.astype(np.int64)
    kept = np.sort(np.unique(keys, return_index=True)[1])
    if len(kept) == len(found):
        return found
    taken = {name: getattr(found, name)[kept] for name in _ARRAYS}
    return Candidates(request_ids=found.request_ids.take(pa.array(kept)), **taken)


def _nothing(layout: PipelineLayout, rows: int) -> str:
    if rows:
        return (
            f"{layout.prediction_logs}: {rows:,} answered rows, none with its inputs; set "
            "serve.prediction_log_inputs_ratio above 0, package a version and let it answer"
        )
    return (
        f"{layout.prediction_logs}: no answered rows in the given time; send requests through "
        "the data plane ('slipway predict'), or choose an earlier --since"
    )
