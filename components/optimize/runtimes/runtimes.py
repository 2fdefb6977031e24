"""The optimised model for each runtime that takes it, tried, and the best of them kept."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from components.optimize.batches import Samples, answer, is_ragged
from components.optimize.runtimes.choice import TENSORFLOW, Tried, choose
from components.optimize.runtimes.comparison import Answers
from components.optimize.runtimes.core import Core
from components.optimize.runtimes.figures import as_figure, as_table
from components.optimize.runtimes.litert_files import make_litert, make_litert_int8
from components.optimize.runtimes.openvino_files import make_openvino, make_openvino_int8
from components.optimize.runtimes.trials import Trial, write_rows
from components.optimize.runtimes.xla_aot import make_xla_aot
from components.raw_examples import Array
from components.saved_models import RAW_SIGNATURE, load
from components.tracking import Tracker
from contract.errors import SlipwayError
from contract.records.optimization import OptimizeRecord, ServedRuntime
from contract.schema.optimize import RuntimesConfig
from contract.storage import digest_directory, size_bytes

log = logging.getLogger("slipway")

RUNTIME = "runtime"
EXPORTS = "exports"
# How OpenVINO and LiteRT begin the line that names the operations that they do not know.
_TELLING = ("No conversion rule found", "Custom ops:", "TF Select ops:", "not supported")


@dataclass(frozen=True)
class Kind:
    """One way to run a core: an engine of the server, a precision, and who makes its file."""

    engine: str
    precision: str
    make: Callable[[Core, Path], str]


KINDS = {
    "openvino": Kind("openvino", "fp32", make_openvino),
    "openvino_bf16": Kind("openvino", "bf16", make_openvino),
    "openvino_int8": Kind("openvino", "int8", make_openvino_int8),
    "litert": Kind("litert", "fp32", make_litert),
    "litert_int8": Kind("litert", "int8", make_litert_int8),
}


@dataclass(frozen=True)
class Models:
    """What candidates are made from and held to.

    Attributes:
        served: The SavedModel that TensorFlow would serve.
        exact: The same before its weights lost digits; often the same folder.
        rows: Sample rows by input of `serving_default`, `[rows, ...]`.
    """

    served: Path
    exact: Path
    rows: Mapping[str, Array]

    def answers(self) -> Answers:
        """Return the exact model's answers to the rows."""
        return answer(load(self.exact).signature(RAW_SIGNATURE), self.rows)


def add_runtimes(
    record: OptimizeRecord, samples: Samples, settings: RuntimesConfig, folder: Path
) -> OptimizeRecord:
    """Return the record with the runtime chosen; its files, and the exports, are in `folder`.

    Args:
        record: What the passes left, relative to `folder`.
        samples: Rows by signature and input.
        settings: Candidates, limits and exports.
        folder: The step's output.
    """
    if why := _no_other_runtime(samples):
        return record.model_copy(update={"runtime": ServedRuntime(reason=why)})
    exact = folder / (record.float_model or record.model)
    models = Models(folder / record.model, exact, samples[RAW_SIGNATURE])
    chosen = choose_runtime(models, settings, folder / RUNTIME)
    made, left_out = _export(models, settings, folder / EXPORTS)
    exports = {"exports": made, "exports_left_out": left_out}
    return record.model_copy(update={"runtime": chosen.model_copy(update=exports)})


def _no_other_runtime(samples: Samples) -> str:
    """Say why no other runtime can serve these signatures; empty if one may."""
    if RAW_SIGNATURE not in samples:
        return f"other runtimes serve the signature '{RAW_SIGNATURE}', and there is none"
    ragged = [name for name, column in samples[RAW_SIGNATURE].items() if is_ragged(column)]
    return f"input '{ragged[0]}' is ragged, which only TensorFlow takes" if ragged else ""


def log_trials(runtime: ServedRuntime, tracker: Tracker) -> None:
    """Upload the trials' table and picture, if there were any."""
    if runtime.measured:
        tracker.log_table(as_table(runtime), "runtimes.json")
        tracker.log_figure(as_figure(runtime), "runtimes.png")


def choose_runtime(models: Models, settings: RuntimesConfig, target: Path) -> ServedRuntime:
    """Make and try every candidate; write the chosen one's files to `target`.

    TensorFlow is always tried, if only to see how far its quantised model is from the exact one.
    Where it is the one chosen nothing is written.
    """
    candidates = [name for name in settings.candidates if name != TENSORFLOW]
    if not candidates and models.served == models.exact:
        return ServedRuntime(reason="no other runtime was to be tried")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".runtimes-") as place:
        workplace = Path(place)
        chosen = choose(list(_try_all(models, candidates, workplace)), models.answers(), settings)
        log.info("optimize: runtime %s: %s", chosen.name, chosen.reason)
        if chosen.name == TENSORFLOW:
            return chosen
        shutil.copytree(workplace / chosen.name, target)
    return chosen.model_copy(update={"path": target.name, "digest": digest_directory(target)})


def _export(
    models: Models, settings: RuntimesConfig, target: Path
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
            left_out[name] = _in_words(error)
            log.warning("optimize: no export '%s': %s", name, left_out[name])
    return made, left_out


def _try_all(models: Models, candidates: Sequence[str], workplace: Path) -> Iterator[Tried]:
    """Yield what was seen of TensorFlow, then of each candidate.

    All load at once, in the background, while the next one's files are made; each is measured when
    nothing else is under way.
    """
    rows_file = workplace / "rows.npz"
    write_rows(models.rows, rows_file)
    is_reduced = {n: KINDS[n].precision != "fp32" for n in candidates}
    is_reduced[TENSORFLOW] = models.served != models.exact
    with ExitStack() as stack:

        def start(runtime: Path | None) -> Trial:
            trial = Trial.start(models.served, runtime, rows_file, workplace)
            stack.callback(trial.stop)
            return trial

        started: dict[str, Trial | str] = {TENSORFLOW: start(None)}
        for name, folder in _made(models, candidates, workplace):
            started[name] = start(folder) if isinstance(folder, Path) else folder
        for name, trial in started.items():
            folder = models.served if name == TENSORFLOW else workplace / name
            yield _seen(Tried(name, is_reduced[name]), trial, folder)


def _made(
    models: Models, candidates: Sequence[str], workplace: Path
) -> Iterator[tuple[str, Path | str]]:
    """Yield each candidate's folder, or why there is none."""
    if not candidates:
        return
    parts = workplace / "parts"
    parts.mkdir()
    try:
        core = Core.of(models.exact, models.rows, parts)
    except Exception as error:  # noqa: BLE001 (whatever the graph does, TensorFlow runs it)
        yield from ((name, _in_words(error)) for name in candidates)
        return
    for name in candidates:
        folder = workplace / name
        folder.mkdir()
        try:
            make(core, KINDS[name], folder)
            yield name, folder
        except Exception as error:  # noqa: BLE001 (converters raise what they like)
            yield name, _in_words(error)


def make(core: Core, kind: Kind, folder: Path) -> None:
    """Write all files of a runtime into an existing folder."""
    file = kind.make(core, folder)
    core.describe(core.files(kind.engine, kind.precision, file), folder)


def _seen(of: Tried, trial: Trial | str, folder: Path) -> Tried:
    if isinstance(trial, str):
        return replace(of, failure=trial)
    try:
        figures, found = trial.measure()
    except SlipwayError as error:
        return replace(of, failure=_in_words(error))
    return replace(of, size_bytes=size_bytes(folder), figures=figures, answers=found)


def _in_words(error: Exception) -> str:
    """Return the line of a converter's error that says what it was, of the many that it prints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if any(words in line for words in _TELLING))
    return next(telling, (lines or [type(error).__name__])[0])[:300]
