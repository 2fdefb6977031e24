"""SavedModel in, smaller and faster SavedModel out: pass by pass, each held to the original."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.optimize.chain import Chain, Data, State
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.calibration import TensorValues
from components.optimize.judging.cold_start import Bench
from components.optimize.judging.measure import main_signature
from contract.records.optimization import LedgerRow, OptimizeRecord, TensorRange
from contract.schema.optimize import OptimizeConfig
from contract.schema.passes import CalibrationMethod
from contract.storage import storage_errors

__all__ = ["FLOAT_MODEL", "MODEL", "Data", "Optimized", "optimize"]

log = logging.getLogger("slipway")

MODEL, FLOAT_MODEL = "model", "float_model"

Report = Callable[[LedgerRow], None]


@dataclass(frozen=True)
class Optimized:
    """The record of what was done, the graphs at both ends, and what calibration saw."""

    record: OptimizeRecord
    before: GraphModel
    after: GraphModel
    observed: tuple[TensorValues, ...]


def optimize(
    source: Path, data: Data, settings: OptimizeConfig, target: Path, report: Report | None = None
) -> Optimized:
    """Write an optimised copy of a SavedModel and return what each pass did to it.

    A float pass whose answers differ from the original's by more than `settings.tolerance`, that
    changes a signature or that raises is undone, and named in the ledger; the next one starts
    from what was kept. A lossy pass must keep to its budget, if need be by leaving layers in
    float, and make the model smaller or faster; else the model before it is used.

    Args:
        source: The SavedModel; it is not touched.
        data: Rows.
        settings: Passes in order, and their limits.
        target: A directory; gets `model` and, where a lossy pass was kept, `float_model`.
        report: Called with each row of the ledger as it comes.

    Raises:
        DataError: If `source` is not a SavedModel with signatures, or the rows do not fit it.
        UserCodeError: If two calls of it on the same rows differ.
    """
    tf.get_logger().setLevel(logging.ERROR)
    report = report or _log
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    with (
        Bench() as bench,
        tempfile.TemporaryDirectory(dir=target, prefix=".passes-") as workplace,
    ):
        chain = Chain(source, data, settings, Path(workplace))
        report(chain.rows[0])
        for one in settings.passes:
            report(chain.apply(one))
        final = chain.choose()
        rows = _with_cold_starts(chain, [*chain.rows, chain.whole(final)], final, bench)
        report(rows[-1])
        with storage_errors(target):
            _write(chain, final, target)
    observed = tuple(chain.observed or ())
    record = OptimizeRecord(
        model=MODEL,
        float_model=FLOAT_MODEL if final.is_lossy else "",
        ledger=tuple(rows),
        metric=data.evaluation.in_words,
        budget_percent=settings.budget_percent,
        calibration=_ranges(observed, settings),
    )
    return Optimized(record, chain.states[0].model, final.model, observed)


def _log(row: LedgerRow) -> None:
    log.info("optimize: %s: %s", row.name, row.reason)


def _with_cold_starts(
    chain: Chain, rows: list[LedgerRow], final: State, bench: Bench
) -> list[LedgerRow]:
    """Return the ledger with cold start and peak memory of each model that was saved."""
    original = chain.states[0].saved
    name = main_signature(original.module.signatures)
    paths = list(dict.fromkeys(chain.paths.values()))
    starts = dict(zip(paths, bench.measure(paths, name, chain.samples[name]), strict=True))
    of_rows = {**chain.paths, len(rows) - 1: final.saved.path}
    for index, path in of_rows.items():
        if (start := starts[path]) is not None:
            figures = {"cold_start_seconds": start.seconds, "peak_memory_bytes": start.peak_bytes}
            rows[index] = rows[index].model_copy(update=figures)
    return rows


def _write(chain: Chain, final: State, target: Path) -> None:
    shutil.copytree(final.saved.path, target / MODEL)
    if final.is_lossy:
        shutil.copytree(chain.float_state.saved.path, target / FLOAT_MODEL)


def _ranges(
    observed: tuple[TensorValues, ...], settings: OptimizeConfig
) -> tuple[TensorRange, ...]:
    methods = [one.method for one in settings.passes if hasattr(one, "method")]
    method: CalibrationMethod = methods[0] if methods else "kl"
    return tuple(values.range(method) for values in observed)
