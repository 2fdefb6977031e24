"""The chain of passes: each tried, saved, loaded as a server would, judged, kept or undone."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.models.saved_models import LoadedModel, load
from components.models.traced_operations import python_operation
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.batches import Samples
from components.optimize.judging.calibration import TensorValues, observe
from components.optimize.judging.gate import Difference, Gate
from components.optimize.judging.judgement import AnswerCost, AnswerJudge, Evaluation
from components.optimize.judging.measure import compressed_bytes, latencies_ms, latency_ms
from components.optimize.judging.row_check import Fillers, require_repeatable
from components.optimize.passes.change import Change, operation_changes
from components.optimize.passes.registry import FLOAT_PASSES, lossy_pass
from components.optimize.sensitivity import Search
from components.optimize.verdicts import refusal, verdict
from components.quality.row_independence import TOLERANCE
from contract.errors import DataError, DiskFullError, UserCodeError
from contract.records.optimization import LedgerRow
from contract.schema.optimize import OptimizeConfig
from contract.schema.passes import LOSSY_PASSES, Pass
from contract.storage import size_bytes, storage_errors

ORIGINAL, WHOLE = "original", "whole"
_MOST_WORSE = 1.25  # a model kept for its size may be slower by this factor, and the reverse


@dataclass(frozen=True)
class Data:
    """Rows for every signature, and those on which lossy passes are judged.

    `samples` compare float passes, calibrate ranges and are what speed is measured with. `fillers`
    are what fills up lists that are shorter than the longest, by input of `serving_default`; an
    input that has none there is taken as it is. `row_tolerance` is how far two answers of the
    original to the same row may be apart.
    """

    samples: Samples
    evaluation: Evaluation
    fillers: Fillers = field(default_factory=dict)
    row_tolerance: float = TOLERANCE


@dataclass(frozen=True)
class State:
    """A model after a pass that was kept, as a graph and as it lies on disk."""

    model: GraphModel
    saved: LoadedModel
    row: int  # its place in the ledger
    is_lossy: bool = False


class Chain:
    """Applies passes one after the other; remembers each state and each row of the ledger."""

    def __init__(self, source: Path, data: Data, settings: OptimizeConfig, workplace: Path) -> None:
        """Load, lift and measure the original.

        Raises:
            DataError: If `source` is not a SavedModel with signatures that can be rewritten, or the
                rows do not fit it.
            UserCodeError: If two calls of the original on the same rows differ, or it calls Python.
        """
        original = load(source)
        _require_graph_alone(original)
        self.samples = data.samples
        self._data, self._settings, self._workplace = data, settings, workplace
        self._gate = Gate.of(original, data.samples)
        require_repeatable(original, data.samples, self._gate.expected, settings.tolerance)
        self._judge = _judge_of(original, data.evaluation)
        model = _lifted(source)
        first = LedgerRow(
            name=ORIGINAL,
            is_kept=True,
            operations=model.operations().total(),
            metric=self._judge.metric,
        )
        self.rows = [self._measured(first, original)]
        self.paths: dict[int, Path] = {0: source}  # by row, where the model after it lies
        self.states = [State(model, original, 0)]
        self.observed: list[TensorValues] | None = None

    # --- one pass -------------------------------------------------------------------------------

    def apply(self, settings: Pass) -> LedgerRow:
        """Try a pass; what it raises is a reason to undo it, whatever it is but a full disk."""
        started, before = time.monotonic(), self.states[-1]
        try:
            if settings.name in FLOAT_PASSES:
                row, state = self._apply_float(settings.name, before)
            else:
                row, state = self._apply_lossy(settings, before)
        except DiskFullError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a pass does, the chain continues)
            reason = f"undone: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            row, state = LedgerRow(name=settings.name, is_kept=False, reason=reason), None
        self.rows.append(row.model_copy(update={"seconds": time.monotonic() - started}))
        self.states += [] if state is None else [state]
        return self.rows[-1]

    def _apply_float(self, name: str, before: State) -> tuple[LedgerRow, State | None]:
        change = FLOAT_PASSES[name](before.model)
        if not change.is_change:
            return self._no_op(name, change, before), None
        saved = self._saved(name, change.model)
        difference, allowed = self._gate.difference(saved), self._settings.tolerance
        is_kept = difference.relative <= allowed
        reason = change.note if is_kept else refusal(difference, allowed)
        row = self._row(name, change, before, difference)
        row = self._measured(row.model_copy(update={"is_kept": is_kept, "reason": reason}), saved)
        if math.isfinite(difference.relative):
            judgement = self._judge.judge(saved.signature(self._data.evaluation.signature))
            row = row.model_copy(update=_figures(judgement))
        return row, State(change.model, saved, len(self.rows)) if is_kept else None

    def _apply_lossy(self, settings: Pass, before: State) -> tuple[LedgerRow, State | None]:
        lossy = lossy_pass(settings, before.model, self.observe)
        evaluation, budget = self._data.evaluation, self._settings.budget_percent
        search = Search(lossy, evaluation.signature, evaluation.inputs, self._judge, budget)
        found = search.run(before.model)
        change = found.change
        if not change.is_change:
            return self._no_op(settings.name, change, before), None
        saved = self._saved(settings.name, change.model)
        difference = self._gate.difference(saved)
        is_kept = found.judgement.cost_percent <= budget and math.isfinite(difference.largest)
        row = self._row(settings.name, change, before, difference).model_copy(
            update={
                "is_kept": is_kept,
                "reason": verdict(found, len(lossy.layers), budget, is_kept),
                "float_layers": found.float_layers if is_kept else (),
                **_figures(found.judgement),
            }
        )
        state = State(change.model, saved, len(self.rows), is_lossy=True) if is_kept else None
        return self._measured(row, saved), state

    def observe(self) -> list[TensorValues]:
        """Return what the float model's tensors held on the sample rows; computed once."""
        if self.observed is None:
            self.observed = observe(self.float_state.model, self._data.samples)
        return self.observed

    # --- the end --------------------------------------------------------------------------------

    @property
    def float_state(self) -> State:
        """The state after the last float pass that was kept."""
        return [state for state in self.states if not state.is_lossy][-1]

    def choose(self) -> State:
        """Return the state that is kept; say in the ledger why lossy ones after it do not.

        Each lossy state must be smaller or faster by `min_gain_ratio` than what was chosen so far,
        and not much worse in the other.
        """
        chosen = self.float_state
        later = [state for state in self.states if state.is_lossy]
        for state in later:
            gain = self._gain(chosen, state)
            if gain is None:
                chosen = state
                continue
            row = self.rows[state.row]
            reason = f"{row.reason}; left out in the end: {gain}"
            self.rows[state.row] = row.model_copy(update={"is_kept": False, "reason": reason})
        return chosen

    def _gain(self, chosen: State, state: State) -> str | None:
        """Return None if a state is worth its loss, else why it is not."""
        wanted = self._settings.min_gain_ratio
        if wanted == 0:
            return None
        sizes = [size_bytes(one.saved.path) for one in (chosen, state)]
        small = [compressed_bytes(one.saved.path) for one in (chosen, state)]
        slower = []
        for batch in (1, 32):
            models = [chosen.saved, state.saved]
            before, after = latencies_ms(models, self._data.samples, batch)
            slower.append(after / before)
        size, compressed, speed = sizes[1] / sizes[0], small[1] / small[0], max(slower)
        is_smaller = min(size, compressed) <= 1 - wanted and size <= 1 and speed <= _MOST_WORSE
        is_faster = speed <= 1 - wanted and size <= _MOST_WORSE
        if is_smaller or is_faster:
            return None
        return (
            f"{size:.2f} of the size ({compressed:.2f} compressed) and {speed:.2f} of the time of "
            f"'{self.rows[chosen.row].name}'; it must save {wanted:.0%} of one of them"
        )

    def whole(self, final: State) -> LedgerRow:
        """Return the last row: the chosen state beside the original, in all figures."""
        first, row = self.rows[0], self.rows[final.row]
        kept = [one.name for one in self.rows[1:] if one.is_kept and one.operation_changes]
        judgement = self._judge.judge(final.saved.signature(self._data.evaluation.signature))
        reason = "no pass was kept: the original is used unchanged"
        if final.row:
            reason = f"{row.size_bytes / first.size_bytes:.2f} of the size; changed by " + (
                ", ".join(kept) or row.name
            )
        if not final.is_lossy and any(one.name in LOSSY_PASSES for one in self._settings.passes):
            reason += "; the float model is used"
        return row.model_copy(
            update={
                "name": WHOLE,
                "is_kept": True,
                "reason": reason,
                "operation_changes": operation_changes(self.states[0].model, final.model),
                "seconds": sum(one.seconds for one in self.rows),
                **_figures(judgement),
            }
        )

    # --- figures --------------------------------------------------------------------------------

    def _saved(self, name: str, model: GraphModel) -> LoadedModel:
        path = self.paths[len(self.rows)] = self._workplace / f"{len(self.rows)}-{name}"
        with storage_errors(path):
            model.save(path)
        return load(path)

    def _no_op(self, name: str, change: Change, before: State) -> LedgerRow:
        """Return the row of a pass that found nothing: the figures are those before it."""
        self.paths[len(self.rows)] = before.saved.path
        return self.rows[before.row].model_copy(
            update={
                "name": name,
                "is_kept": True,
                "reason": change.note,
                "operation_changes": {},
                "float_layers": (),
            }
        )

    def _row(self, name: str, change: Change, before: State, difference: Difference) -> LedgerRow:
        return LedgerRow(
            name=name,
            is_kept=False,
            operations=change.model.operations().total(),
            operation_changes=operation_changes(before.model, change.model),
            max_difference=difference.largest,
            mean_difference=difference.mean,
            max_relative_difference=difference.relative,
        )

    def _measured(self, row: LedgerRow, saved: LoadedModel) -> LedgerRow:
        """Return the row with size and latency of the SavedModel as it lies on disk."""
        samples = self._data.samples
        return row.model_copy(
            update={
                "size_bytes": size_bytes(saved.path),
                "compressed_bytes": compressed_bytes(saved.path),
                "latency_ms_batch_1": latency_ms(saved, samples, 1),
                "latency_ms_batch_32": latency_ms(saved, samples, 32),
            }
        )


def _figures(judgement: AnswerCost) -> dict[str, Any]:
    return {
        "agreement_ratio": judgement.agreement_ratio,
        "metric": judgement.metric,
        "metric_difference": judgement.metric_difference,
    }


def _require_graph_alone(model: LoadedModel) -> None:
    """Refuse a model that calls Python: only the process that saved it has the function."""
    for name, signature in model.module.signatures.items():
        if called := python_operation(signature.graph):
            raise UserCodeError(
                f"{model.path}: signature '{name}': '{called}' calls Python (tf.py_function, "
                "tf.numpy_function), which only the process that saved the model can do; expected "
                "operations of TensorFlow only"
            )


def _judge_of(original: LoadedModel, evaluation: Evaluation) -> AnswerJudge:
    try:
        return AnswerJudge(original.signature(evaluation.signature), evaluation)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise DataError(
            f"{original.path}: the evaluation rows or labels do not fit signature "
            f"'{evaluation.signature}': {error}"
        ) from error


def _lifted(source: Path) -> GraphModel:
    try:
        return GraphModel.lift(source)
    except Exception as error:  # TensorFlow raises whatever its importers met
        first_line = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{source}: its signatures cannot be rewritten: {type(error).__name__}: {first_line}"
        ) from error
