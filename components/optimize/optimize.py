"""SavedModel in, smaller and faster SavedModel out: pass by pass, each held to the original."""

import logging
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.optimize.gate import Gate, Samples
from components.optimize.graphs import GraphModel
from components.optimize.measure import latency_ms
from components.optimize.passes.registry import PASSES
from components.saved_models import LoadedModel, load
from contract.records import LedgerRow
from contract.schema import OptimizeConfig
from contract.storage import size_bytes

log = logging.getLogger("slipway")

ORIGINAL = "original"


def optimize(
    source: Path, samples: Samples, settings: OptimizeConfig, target: Path
) -> tuple[LedgerRow, ...]:
    """Write an optimised copy of a SavedModel and return what each pass did to it.

    A pass whose answers differ from the original's by more than `settings.tolerance`, that changes
    a signature or that raises is undone, and named in the ledger; the next one goes on from what
    was kept. If none is kept, `target` is the original itself.

    Args:
        source: The SavedModel; it is not touched.
        samples: Rows that every signature is called with, by signature and input, `[rows, ...]`.
        settings: Passes in order, and the tolerance.
        target: A directory to make.

    Raises:
        DataError: If `source` is no SavedModel with signatures, or the rows do not fit it.
    """
    tf.get_logger().setLevel(logging.ERROR)
    original = load(source)
    gate = Gate.of(original, samples)
    model = GraphModel.lift(source)
    kept = source
    first = LedgerRow(name=ORIGINAL, is_kept=True, operations=model.operations().total())
    ledger = [_measured(first, original, samples)]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".passes-") as workplace:
        for number, name in enumerate(settings.passes):
            trial = _Trial(gate, settings.tolerance, Path(workplace) / f"{number}-{name}")
            row, changed = trial.run(name, model)
            if changed is not None:
                model, kept = changed, trial.path
            ledger.append(row)
            log.info("optimize: %s: %s", name, row.reason)
        shutil.copytree(kept, target)
    return tuple(ledger)


@dataclass(frozen=True)
class _Trial:
    """One pass tried: rewritten, saved, loaded again as a server would, and compared."""

    gate: Gate
    tolerance: float
    path: Path

    def run(self, name: str, model: GraphModel) -> tuple[LedgerRow, GraphModel | None]:
        """Return the pass's row and, if it is kept, the model after it."""
        try:
            change = PASSES[name](model)
            change.model.save(self.path)
            saved = load(self.path)
            difference = self.gate.difference(saved)
        except Exception as error:  # noqa: BLE001 (whatever a pass does, the chain goes on)
            reason = f"undone: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            return LedgerRow(name=name, is_kept=False, reason=reason), None
        is_kept = difference <= self.tolerance
        row = LedgerRow(
            name=name,
            is_kept=is_kept,
            reason=change.note if is_kept else self._refusal(difference),
            operations=change.model.operations().total(),
            max_relative_difference=difference,
        )
        return _measured(row, saved, self.gate.samples), change.model if is_kept else None

    def _refusal(self, difference: float) -> str:
        if math.isinf(difference):
            return "undone: a signature changed, or an output is of another shape or not finite"
        return (
            f"undone: outputs differ by {difference:.3g} relative, at most {self.tolerance:g} is "
            "allowed"
        )


def _measured(row: LedgerRow, saved: LoadedModel, samples: Samples) -> LedgerRow:
    """Return the row with size and latency of the SavedModel as it lies on disk."""
    return row.model_copy(
        update={
            "size_bytes": size_bytes(saved.path),
            "latency_ms_batch_1": latency_ms(saved, samples, 1),
            "latency_ms_batch_32": latency_ms(saved, samples, 32),
        }
    )
