"""What `slipway check` checks before a run."""

import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cli import extras
from cli.checks.cluster_check import check_runtime
from cli.checks.code_check import check_code
from cli.checks.findings import Finding
from cli.output import quietly
from contract.errors import SlipwayError
from contract.loader import load_pipeline
from contract.pipelines import folder_problems
from contract.run_rights import check_sources as check_allowed_sources
from contract.schema.data import Source
from contract.schema.pipeline import PipelineConfig
from contract.staging.root import open_root
from contract.storage import ORIGIN, size_bytes
from launching.environment import current_runtime

# Raw examples, transformed examples and the checkpoints each cost about as much as the data.
COPIES_OF_DATA = 4
LEAST_FREE_BYTES = 1 << 30  # a run with little data still writes models and logs


def check_pipeline(folder: Path, overrides: Mapping[str, Any], root: Path) -> Iterator[Finding]:
    """Yield a finding for everything that is checked, in order; a wrong config ends it early."""
    yield from (Finding("pipelines", "warning", problem) for problem in folder_problems())
    try:
        config = load_pipeline(folder, overrides)
    except SlipwayError as error:
        yield from (Finding("config", "error", line) for line in str(error).splitlines())
        return
    yield Finding(
        "config",
        "ok",
        f"{folder.name}/pipeline.yaml: {len(config.features)} features, heads "
        f"{', '.join(config.heads)}, {config.train.steps} steps of {config.train.batch_size}",
    )
    yield from check_runtime(config)
    yield from check_places(config, folder)
    if (absent := extras.absence("components")) is not None:
        looked_at = "neither the code, nor the training, nor columns of files were looked at"
        yield Finding("code", "warning", f"{looked_at}: that needs {absent}")
    else:
        gpus = yield from check_code(folder, overrides)
        yield from check_training(config, gpus)
    yield from check_sources(config)
    if not is_on_kubernetes():
        yield check_disk(config, root)
        yield from check_store(root)
        yield from check_services()


def is_on_kubernetes() -> bool:
    """Tell whether runs use a cluster's disks and services instead of this machine's."""
    try:
        return current_runtime().kubernetes is not None
    except SlipwayError:
        return False  # `check_runtime` reports it


def check_places(config: PipelineConfig, folder: Path) -> Iterator[Finding]:
    """Look whether the runtime file allows the places that the sources name."""
    try:
        check_allowed_sources(config, folder, current_runtime().sources)
    except SlipwayError as error:
        yield from (Finding("sources", "error", line) for line in str(error).splitlines())


def check_training(config: PipelineConfig, gpus: int | None) -> Iterator[Finding]:
    """Look for what makes the training impossible here: libraries, versions, accelerators.

    Args:
        gpus: How many there are; None: count them, which imports TensorFlow.
    """
    from components.train.preflight import (
        count_gpus,
        training_problems,
        training_warnings,
        version_problems,
    )

    with quietly():
        problems = [*version_problems(), *training_problems(config)]
        warnings = list(training_warnings(config, count_gpus if gpus is None else lambda: gpus))
    yield from (Finding("training", "warning", warning) for warning in warnings)
    yield from (Finding("training", "error", problem) for problem in problems)
    if not problems:
        train = config.train
        several = f", {train.workers} workers" if train.is_distributed else ""
        yield Finding("training", "ok", f"strategy {train.strategy}{several}, {train.precision}")


def check_sources(config: PipelineConfig) -> Iterator[Finding]:
    """Look whether the files that the config names are there, not empty, and have its columns."""
    for key, source in config.ingest.sources.items():
        if not source.paths:
            yield Finding("sources", "ok", f"{key}: {source.kind}, needs no file")
        found = [_check_pattern(key, pattern) for pattern in source.paths]
        yield from found
        if all(one.state == "ok" for one in found) and extras.absence("components") is None:
            yield _check_columns(key, config, source)


def check_disk(config: PipelineConfig, root: Path) -> Finding:
    """Compare the free space at the artifact root with what a run may need."""
    files = [f for s in config.ingest.sources.values() for p in s.paths for f in _files(p)]
    needed = LEAST_FREE_BYTES + COPIES_OF_DATA * sum(size_bytes(f) for f in files)
    place = next(p for p in [root, *root.parents] if p.exists())
    free = shutil.disk_usage(place).free
    message = f"{_gib(free)} free at {place}, a run may need {_gib(needed)}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "error", f"{place}: not writable; choose another root")
    return Finding("disk", "ok" if free >= needed else "error", message)


def check_store(root: Path) -> Iterator[Finding]:
    """Write to a root in an object store, and try what two runs at once must not both do."""
    if not (root / ORIGIN).is_file():
        return
    uri = (root / ORIGIN).read_text(encoding="utf-8")
    try:
        open_root(str(root)).verify()
    except SlipwayError as error:
        yield Finding("root", "error", str(error))
    else:
        yield Finding("root", "ok", f"{uri}: can be written, and refuses to overwrite")


def check_services() -> Iterator[Finding]:
    """Check the health of this machine's services, if any are running."""
    from cli.stack.stack_file import read_stack, service_problems

    stack = read_stack()
    if stack is None:
        yield Finding(
            "services",
            "warning",
            "no services are running; a local run will stop after packaging. Start them with "
            "'slipway up'",
        )
        return
    problems = service_problems(stack)
    for problem in problems:
        yield Finding("services", "error", f"{problem}; try 'slipway down' and 'slipway up'")
    if not problems:
        yield Finding("services", "ok", "all services that 'slipway up' started answer")


def _check_pattern(key: str, pattern: str) -> Finding:
    if "://" in pattern:
        return Finding("sources", "ok", f"{key}: {pattern}: in a store")  # its columns tell more
    files = _files(pattern)
    if not files:
        return Finding(
            "sources", "error", f"{key}: {pattern}: no such file; expected at least one match"
        )
    if empty := [f for f in files if f.stat().st_size == 0]:
        return Finding("sources", "error", f"{key}: {empty[0]}: empty; expected rows")
    size = sum(f.stat().st_size for f in files)
    return Finding("sources", "ok", f"{key}: {pattern}: {len(files)} file(s), {size:,} bytes")


def _check_columns(key: str, config: PipelineConfig, source: Source) -> Finding:
    """Read the names of the columns, no rows, as `ingest` will."""
    with quietly():
        from components.data.raw_rows import required_columns
        from components.ingest.sources import checked_columns, module_of
    wanted = required_columns(config)
    try:
        for file in module_of(source).files(source):
            checked_columns(source, file, config)
    except SlipwayError as error:
        return Finding("sources", "error", f"{key}: {error}")
    return Finding("sources", "ok", f"{key}: has the {len(wanted)} columns that the config names")


def _files(pattern: str) -> list[Path]:
    if "://" in pattern:
        return []
    found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute)
    if found == [Path(pattern)] and found[0].is_dir():
        return sorted(path for path in found[0].rglob("*") if path.is_file())
    return found


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
