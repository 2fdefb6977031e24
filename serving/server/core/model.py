"""A package loaded, checked and warm: what a front (REST today) hands its rows to."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contract.errors import DataError
from contract.layout import PACKAGE_MANIFEST
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE, output_names
from contract.records.package import InputSpec, PackageManifest
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory
from serving.server.engines.cpu import differs_from, this_machine
from serving.server.engines.engine import RefusedInputError, ServedModel, Signature
from serving.server.engines.opening import open_model
from serving.server.requests.arrays import ArrayReader
from serving.server.requests.instances import InputReader, Limits

log = logging.getLogger("slipway")


def read_package(folder: Path) -> PackageManifest:
    """Read a package's manifest.

    Raises:
        NotFoundError: If there is none.
        DataError: If it is not one, or the model beside it is missing.
    """
    manifest = PackageManifest.read(folder / PACKAGE_MANIFEST)
    if not (folder / manifest.model).is_dir():
        raise DataError(
            f"{folder}: broken package: {PACKAGE_MANIFEST} names the model '{manifest.model}', "
            "which does not exist; package the run again"
        )
    return manifest


def load_model(folder: Path, manifest: PackageManifest) -> ServedModel:
    """Load the model, check it against its manifest, and run it once at every power of two rows.

    Raises:
        DataError: If its digest, its inputs or its outputs are not what the manifest says.
    """
    started = time.monotonic()
    model, other = folder / manifest.model, None
    _check_digest(model, manifest.digest)
    if manifest.engine.path:
        other = folder / manifest.engine.path
        _check_digest(other, manifest.engine.digest)
    opened = open_model(model, other, manifest.inputs, manifest.serve.num_batch_threads)
    _check_signature(other or model, opened.signatures.get(DEFAULT_SIGNATURE), manifest)
    loaded = time.monotonic()
    _warn_of_another_machine(manifest)
    _warm_up(opened, manifest)
    log.info(
        "%s version %d: loaded for %s in %.1f s, warm after %.1f s more",
        manifest.pipeline,
        manifest.version,
        manifest.engine.name,
        loaded - started,
        time.monotonic() - loaded,
    )
    return opened


def input_specs(manifest: PackageManifest, model: ServedModel) -> dict[str, dict[str, InputSpec]]:
    """Return, for each signature that can be called over the wire, its inputs."""
    specs = {DEFAULT_SIGNATURE: dict(manifest.inputs)}
    if EXAMPLES_SIGNATURE in model.signatures:
        names = model.signatures[EXAMPLES_SIGNATURE].inputs
        specs[EXAMPLES_SIGNATURE] = {name: InputSpec(dtype="string") for name in names}
    return specs


def readers(manifest: PackageManifest, model: ServedModel) -> dict[str, InputReader]:
    """Return a reader of JSON for each signature that can be called over the wire."""
    return {
        signature: InputReader(inputs, limits_of(manifest, signature))
        for signature, inputs in input_specs(manifest, model).items()
    }


def array_readers(manifest: PackageManifest, model: ServedModel) -> dict[str, ArrayReader]:
    """Return a reader of arrays for each signature that can be called over the wire."""
    return {
        signature: ArrayReader(inputs, limits_of(manifest, signature))
        for signature, inputs in input_specs(manifest, model).items()
    }


def limits_of(manifest: PackageManifest, signature: str) -> Limits:
    """Return what one request of a signature may ask for."""
    serve = manifest.serve
    is_padded = bool(fillers(manifest)) and signature == EXAMPLES_SIGNATURE
    return Limits(serve.max_request_rows, serve.max_cells, pads_examples=is_padded)


def fillers(manifest: PackageManifest) -> dict[str, object]:
    """Return what pads the shorter rows of each variable-length input."""
    return {n: spec.filler for n, spec in manifest.inputs.items() if spec.is_variable_length}


def _warn_of_another_machine(manifest: PackageManifest) -> None:
    """Warn if the engine was chosen by measurements on another kind of CPU."""
    trial = manifest.engine.trial
    if trial is None or trial.machine is None:
        return
    if difference := differs_from(trial.machine, this_machine()):
        log.warning(
                "%s version %d: engine %s may not be the best one here: %s; run 'optimize' where "
                "it will serve",
                manifest.pipeline, manifest.version, manifest.engine.name, difference,
            )  # fmt: skip


def _check_digest(path: Path, expected: str) -> None:
    if (digest := digest_directory(path)) != expected:
        raise DataError(
            f"{path}: corrupt: its digest is {digest}, {PACKAGE_MANIFEST} says {expected}; "
            "package the run again"
        )


def _check_signature(path: Path, signature: Signature | None, manifest: PackageManifest) -> None:
    if signature is None:
        raise DataError(f"{path}: no signature '{DEFAULT_SIGNATURE}'; export one")
    found = {name: tensor.dtype for name, tensor in signature.inputs.items()}
    expected = {name: spec.dtype for name, spec in manifest.inputs.items()}
    if found != expected:
        raise DataError(f"{path}: takes the inputs {found}, {PACKAGE_MANIFEST} says {expected}")
    missing = set(output_names(manifest.heads).values()) - signature.outputs.keys()
    if missing:
        raise DataError(
            f"{path}: answers {sorted(signature.outputs)}, expected also {sorted(missing)}"
        )


def _warm_up(model: ServedModel, manifest: PackageManifest) -> None:
    """Call the model as traffic will, so that no caller pays for its first optimisation.

    Made-up rows (zeros, empty text, defaults) may be refused by a graph that, say, decodes images;
    that is said and no reason not to serve.
    """
    for rows in _warm_sizes(manifest.serve):
        columns = made_up_columns(manifest, rows)
        try:
            outputs = model.call(DEFAULT_SIGNATURE, columns)
        except RefusedInputError as error:
            log.warning(
                "warm-up: the model refuses generated rows (%s); it starts without warm-up", error
            )
            return
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                raise DataError(
                    f"{manifest.model}: output '{name}' has shape {list(array.shape)} for {rows} "
                    "rows, expected one entry a row"
                )


def _warm_sizes(serve: ServeConfig) -> Sequence[int]:
    """Return with how many rows traffic will call the model: every power of two, or all allowed."""
    powers = (1 << power for power in range((serve.max_batch_size - 1).bit_length()))
    return serve.allowed_batch_sizes or (*powers, serve.max_batch_size)


def made_up_columns(manifest: PackageManifest, rows: int) -> dict[str, np.ndarray]:
    """Return rows of zeros, empty text and defaults."""
    return {name: _made_up(spec, rows) for name, spec in manifest.inputs.items()}


def _made_up(spec: InputSpec, rows: int) -> np.ndarray:
    value = spec.default if spec.default is not None else "" if spec.dtype == "string" else 0
    shape = (rows, 1) if spec.is_variable_length else (rows, *spec.shape)
    if isinstance(value, str):
        return np.full(shape, value.encode(), object)
    return np.full(shape, value, np.dtype(spec.dtype))
