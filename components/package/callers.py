"""A package tried with what callers may send, against every engine that may serve it.

The packaged engine and TensorFlow answer the same rows over HTTP, each row alone through every
signature, then full batches through every method. Where the two do not do the same, the engine is
not served. What the model cannot answer is recorded.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from components.package.caller_rows import CallerRow
from components.package.engine_calls import Answer, EngineCalls, EngineError
from components.package.server_process import RunningServer, running_server
from contract.errors import DataError, SlipwayError
from contract.layout import PACKAGE_MANIFEST
from contract.records.optimization import EngineFiles, FallbackEngine, ServedEngine
from contract.records.package import CallersReport, PackageManifest, UnansweredInput

log = logging.getLogger("slipway")

_TENSORFLOW = "tensorflow"
_REFERENCE = "reference"
_ATTEMPTS_UNDER_FAULTS = 30
_LONGEST_REASON = 300
_LOGGED_INPUTS = 5


class EngineDiffersError(SlipwayError):
    """The packaged engine does not do with a caller's row what TensorFlow does."""


def try_callers(
    server: RunningServer, package: Path, rows: Sequence[CallerRow], tolerance: float
) -> CallersReport:
    """Send rows to a running package, and to TensorFlow if another engine is packaged.

    Args:
        server: Serves `package`.
        package: Its folder; beside it a reference is started for a while.
        rows: What to send.
        tolerance: How far answers may differ: absolute below 1 in magnitude, relative above.

    Raises:
        EngineDiffersError: If the packaged engine fails, or does otherwise than TensorFlow.
        DataError: If two signatures of the model answer a row differently.
        SlipwayError: If TensorFlow fails.
    """
    manifest = PackageManifest.read(package / PACKAGE_MANIFEST)
    engine, name = manifest.engine.path, manifest.engine.name
    attempts = _ATTEMPTS_UNDER_FAULTS if manifest.serve.fault_ratio else 1
    with ExitStack() as stack:
        packaged = stack.enter_context(EngineCalls.of(server, manifest, attempts))
        if not engine:
            found = _alone(packaged, rows)
            _check_signatures(found, rows, tolerance)
            packaged.together(_answered(found, rows))
            return _report(packaged, rows, found)
        reference = stack.enter_context(_reference(package, manifest))
        wanted = _alone(reference, rows)
        _check_signatures(wanted, rows, tolerance)
        files = EngineFiles.of_folder(package / engine)
        is_reduced = files.precision != "fp32"
        try:
            found = _alone(packaged, rows)
            _compare_alone(name, found, wanted, rows, tolerance, is_reduced)
            kept = [r for r in _answered(wanted, rows) if not (is_reduced and r.is_beyond)]
            _compare_together(name, packaged, reference, kept, tolerance)
        except EngineError as error:
            raise EngineDiffersError(f"{name} fails: {error}") from error
        return _report(reference, rows, wanted)


def without_engine(
    folder: Path,
    manifest: PackageManifest,
    reason: str,
    fallback: tuple[FallbackEngine, Path] | None = None,
) -> PackageManifest:
    """Take the engine out of a package; return its manifest, by which the next best serves it.

    Args:
        folder: The package's.
        manifest: Its manifest, with the engine.
        reason: Why it is left out.
        fallback: The next best engine and where its files are; None: TensorFlow serves.
    """
    engine = manifest.engine
    shutil.rmtree(folder / engine.path)
    log.warning("package: %s is left out: %s", engine.name, reason)
    words = f"left out by package: {reason}"
    measured = tuple(
        row.model_copy(update={"is_eligible": False, "reason": words})
        if row.name == engine.name
        else row
        for row in engine.measured
    )
    served = ServedEngine(
        name=_TENSORFLOW,
        measured=measured,
        reason=f"{engine.name} {words}",
        exports=engine.exports,
        exports_left_out=engine.exports_left_out,
    )
    if fallback is not None:
        following, files = fallback
        shutil.copytree(files, folder / engine.path)
        changes = following.model_dump(include={"name", "digest", "tolerance", "exempt_ratio"})
        changes |= {"path": engine.path, "reason": f"{following.reason}; {served.reason}"}
        served = served.model_copy(update=changes)
    return manifest.model_copy(update={"engine": served})


# --- inside -------------------------------------------------------------------------------------

Alone = dict[str, list[Answer]]  # by signature, in the order of the rows


def _alone(engine: EngineCalls, rows: Sequence[CallerRow]) -> Alone:
    return {
        signature: [engine.alone(signature, row) for row in rows] for signature in engine.signatures
    }


def _answered(found: Alone, rows: Sequence[CallerRow]) -> list[CallerRow]:
    """Return the rows that every signature answers."""
    return [
        row
        for row, *answers in zip(rows, *found.values(), strict=True)
        if all(answer.is_answered for answer in answers)
    ]


def _check_signatures(found: Alone, rows: Sequence[CallerRow], tolerance: float) -> None:
    """Refuse a model whose signatures answer the same row differently."""
    (first, expected), *others = found.items()
    for signature, answers in others:
        for row, answer, wanted in zip(rows, answers, expected, strict=True):
            both = answer.is_answered and wanted.is_answered
            if both and not _is_same(answer.found, wanted.found, tolerance):
                raise DataError(
                    f"the signatures '{signature}' and '{first}' answer the same row differently "
                    f"({row.words}): {_shown(answer.found)} and {_shown(wanted.found)}"
                )


def _compare_alone(  # noqa: PLR0913 (two sides, their rows, and how alike they must be)
    name: str,
    found: Alone,
    wanted: Alone,
    rows: Sequence[CallerRow],
    tolerance: float,
    is_reduced: bool,
) -> None:
    for signature, expected in wanted.items():
        for row, answer, right in zip(rows, found.get(signature, []), expected, strict=True):
            if is_reduced and row.is_beyond and (right.is_not_finite or right.is_answered):
                continue  # int8 ends where its calibration ended
            if answer.is_answered != right.is_answered or (
                right.is_answered and not _is_same(answer.found, right.found, tolerance)
            ):
                raise EngineDiffersError(
                    f"{row.words}: {name} {_does(answer)}, {_TENSORFLOW} {_does(right)}"
                )


def _compare_together(
    name: str,
    packaged: EngineCalls,
    reference: EngineCalls,
    rows: Sequence[CallerRow],
    tolerance: float,
) -> None:
    found = packaged.together(rows)
    for form, right in reference.together(rows).items():
        if not _is_same(found.get(form), right, tolerance):
            raise EngineDiffersError(
                f"a full batch ({form}): {name} and {_TENSORFLOW} answer its rows differently"
            )


def _is_same(found: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() == wanted.keys() and all(
            _is_same(found[key], value, tolerance) for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(
            _is_same(*pair, tolerance) for pair in zip(found, wanted, strict=True)
        )
    if isinstance(wanted, float) and isinstance(found, int | float):
        return bool(abs(found - wanted) <= tolerance * max(abs(wanted), 1.0))
    return bool(found == wanted)


def _does(answer: Answer) -> str:
    return f"answers {_shown(answer.found)}" if answer.is_answered else f"says '{answer.words}'"


def _shown(found: Any) -> str:
    text = np.array2string(np.array(found), precision=4) if isinstance(found, list) else str(found)
    return text.replace("\n", "")[:100]


def _report(engine: EngineCalls, rows: Sequence[CallerRow], found: Alone) -> CallersReport:
    unanswered = [
        UnansweredInput(
            feature=row.feature,
            what=row.what,
            signature=signature,
            reason=answer.words[:_LONGEST_REASON],
        )
        for signature, answers in found.items()
        for row, answer in zip(rows, answers, strict=True)
        if not answer.is_answered
    ]
    for one in unanswered[:_LOGGED_INPUTS]:
        log.warning("package: no answer to '%s' (%s): %s", one.feature, one.what, one.reason)
    log.info(
        "package: %d of %d rows that callers may send are answered by %s",
        *(len(_answered(found, rows)), len(rows), " and ".join(engine.signatures)),
    )
    return CallersReport(rows=len(rows), signatures=engine.signatures, unanswered=tuple(unanswered))


@contextmanager
def _reference(package: Path, manifest: PackageManifest) -> Iterator[EngineCalls]:
    """Serve the same model by TensorFlow for a while, whatever the package asks to fail."""
    folder = package.parent / _REFERENCE
    folder.mkdir()
    (folder / manifest.model).symlink_to(package / manifest.model)
    if manifest.examples:
        shutil.copy(package / manifest.examples, folder / manifest.examples)
    serve = manifest.serve.model_copy(update={"fault_ratio": 0.0})
    changes = {"engine": ServedEngine(), "serve": serve}
    manifest.model_copy(update=changes).write(folder / PACKAGE_MANIFEST)
    try:
        with running_server(folder, package.parent / f"{_REFERENCE}.log") as server:
            server.wait_until_ready()
            with EngineCalls.of(server, manifest, attempts=1) as calls:
                yield calls
    finally:
        shutil.rmtree(folder)
