"""The optimised model for each engine that accepts it, tried, and the best one kept."""

import logging
import shutil
import tempfile
from pathlib import Path

from components.models.saved_models import load
from components.optimize.chain import Data
from components.optimize.engines.attempts import Attempts, Models
from components.optimize.engines.choice import TENSORFLOW, choose, next_best
from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, in_words, make
from components.optimize.engines.xla_aot import make_xla_aot
from components.optimize.judging.batches import Samples, is_ragged
from components.optimize.judging.row_check import require_independent_rows
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.optimization import FallbackEngine, OptimizeRecord, ServedEngine
from contract.schema.optimize import EnginesConfig
from contract.storage import digest_directory

log = logging.getLogger("slipway")

ENGINE = "engine"
FALLBACKS = "fallbacks"
EXPORTS = "exports"


def add_engines(
    record: OptimizeRecord,
    data: Data,
    settings: EnginesConfig,
    folder: Path,
    skew_tolerance: float | None = None,
) -> OptimizeRecord:
    """Return the record with the engine chosen; its files, and the exports, are in `folder`.

    Args:
        record: What the passes left, relative to `folder`.
        data: Rows by signature and input, and those to judge int8 on.
        settings: Candidates, limits and exports.
        folder: The step's output.
        skew_tolerance: The `package.skew_tolerance` that an engine in float32 will have to keep to;
            None: no package is made of it.

    Raises:
        UserCodeError: If the answer to a row depends on more than the row.
    """
    if why := _no_other_engine(data.samples):
        return record.model_copy(update={"engine": ServedEngine(reason=why)})
    exact = folder / (record.float_model or record.model)
    models = Models(folder / record.model, exact, data)
    chosen = choose_engine(models, settings, folder / ENGINE, skew_tolerance)
    made, left_out = _export(models, settings, folder / EXPORTS)
    exports = {"exports": made, "exports_left_out": left_out}
    return record.model_copy(update={"engine": chosen.model_copy(update=exports)})


def _no_other_engine(samples: Samples) -> str:
    """Say why no other engine can serve these signatures; empty if one may."""
    if DEFAULT_SIGNATURE not in samples:
        return f"other engines serve the signature '{DEFAULT_SIGNATURE}', and there is none"
    ragged = [name for name, column in samples[DEFAULT_SIGNATURE].items() if is_ragged(column)]
    return f"input '{ragged[0]}' is ragged, which only TensorFlow accepts" if ragged else ""


def choose_engine(
    models: Models, settings: EnginesConfig, target: Path, skew_tolerance: float | None = None
) -> ServedEngine:
    """Make and try every candidate; write the chosen one's files to `target`.

    Those of the next best ones are written beside it, by name.

    TensorFlow is always tried, if only to see how far its quantised model is from the exact one.
    Where it is the one chosen nothing is written.

    Raises:
        UserCodeError: If the exact model's answer to a row depends on more than the row; then no
            engine is tried.
    """
    candidates = [name for name in settings.candidates if name != TENSORFLOW]
    if not candidates and models.served == models.exact:
        return ServedEngine(reason="no other engine was to be tried")
    row_tolerance = models.data.row_tolerance
    require_independent_rows(load(models.exact), models.rows, models.data.fillers, row_tolerance)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".engines-") as place:
        attempts = Attempts(models, settings.max_accuracy_loss_points, Path(place))
        tried = list(attempts.run(candidates))
        held_to = (models.answers(), settings, skew_tolerance, row_tolerance)
        chosen, ranked = choose(tried, *held_to), list(next_best(tried, *held_to))
        log.info("optimize: engine %s: %s", chosen.name, chosen.reason)
        if chosen.name == TENSORFLOW:
            return chosen
        shutil.copytree(attempts.folders[chosen.name], target)
        fallbacks = tuple(
            _fallback(one, attempts.folders[one.name], target.with_name(FALLBACKS))
            for one in ranked[1:]
        )
    files = {"path": target.name, "digest": digest_directory(target), "fallbacks": fallbacks}
    return chosen.model_copy(update=files)


def _fallback(served: ServedEngine, files: Path, target: Path) -> FallbackEngine:
    """Keep the files of an engine that is not the best one."""
    folder = target / served.name
    shutil.copytree(files, folder)
    return FallbackEngine(
        name=served.name,
        path=f"{target.name}/{served.name}",
        digest=digest_directory(folder),
        tolerance=served.tolerance,
        exempt_ratio=served.exempt_ratio,
        reason=served.reason,
    )


def _export(
    models: Models, settings: EnginesConfig, target: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the files for elsewhere; return by name where each is, and why others are not."""
    made, left_out = dict[str, str](), dict[str, str]()
    for name in settings.exports:
        folder = target / name
        folder.mkdir(parents=True)
        try:
            with tempfile.TemporaryDirectory(dir=target, prefix=".parts-") as parts:
                core = Core.of(models.exact, models.rows, Path(parts))
                if name == "xla_aot":
                    make_xla_aot(core, settings.export_batch_sizes, folder)
                else:
                    make(core, KINDS[name], folder)
            made[name] = f"{target.name}/{name}"
        except Exception as error:  # noqa: BLE001 (converters raise what they like)
            shutil.rmtree(folder)
            left_out[name] = in_words(error)
            log.warning("optimize: no export '%s': %s", name, left_out[name])
    return made, left_out
