"""What a run that somebody starts may change, and where a pipeline may read its data.

`pipeline.yaml` and the user code beside it belong to those who may write that folder. A right to
start runs is less: it covers the config keys that the runtime file lists (`runs.overrides`).
"""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.errors import ConfigError
from contract.schema.pipeline import PipelineConfig
from contract.schema.renamed_keys import new_key
from contract.schema.rights import SourcesConfig

# Keys that their section does not cover: a place that the run would write to, and what is judged.
NAMED_ONLY = frozenset({"evaluate.queue_uri", "evaluate.slices"})


def is_allowed(key: str, allowed: Sequence[str]) -> bool:
    """Tell whether a run may override a dotted key, by the runtime file's list."""
    if key in allowed:
        return True
    return key not in NAMED_ONLY and any(key.startswith(f"{entry}.") for entry in allowed)


def check_overrides(overrides: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Refuse what a run may not change.

    Raises:
        ConfigError: With every key that is not allowed.
    """
    keys = [key for name, value in overrides.items() for key in _leaves(new_key(name), value)]
    refused = [key for key in keys if not is_allowed(key, allowed)]
    if refused:
        keys_allowed = ", ".join(allowed) or "none"
        raise ConfigError(
            [
                f"overrides: {key}: a run started in Airflow may not change it (allowed: "
                f"{keys_allowed}); set it in pipeline.yaml, or add it to runs.overrides of the "
                "runtime file"
                for key in refused
            ]
        )


def check_sources(config: PipelineConfig, folder: Path, allowed: SourcesConfig) -> None:
    """Refuse sources outside of the places that the runtime file allows.

    Args:
        config: The pipeline, with absolute paths.
        folder: The pipeline's own folder, below which it may always read.
        allowed: What the runtime file says.

    Raises:
        ConfigError: With every path that is not allowed.
    """
    problems = [
        f"ingest.{key}: {problem}"
        for key, source in config.ingest.sources.items()
        for path in source.paths
        for problem in _path_problems(path, folder, allowed)
    ]
    if problems:
        raise ConfigError(problems)


def _leaves(key: str, value: Any) -> Iterator[str]:
    """Yield the dotted keys that an override sets; a section as a whole sets each of its keys."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def _path_problems(path: str, folder: Path, allowed: SourcesConfig) -> Iterator[str]:
    schemes = _schemes(path)
    unknown = [scheme for scheme in schemes if scheme not in allowed.schemes]
    if unknown:
        yield (
            f"{path}: scheme '{unknown[0]}' is not allowed (allowed: {', '.join(allowed.schemes)}; "
            "sources.schemes of the runtime file)"
        )
    elif allowed.roots and set(schemes) <= {"file"}:
        roots = [Path(root).resolve() for root in (*allowed.roots, str(folder))]
        local = path.rpartition("://")[2]
        outside = [one for one in _real_paths(local) if not _is_below(one, roots)]
        if outside:
            yield (
                f"{path}: {outside[0]} is outside of {', '.join(allowed.roots)} (sources.roots of "
                "the runtime file)"
            )


def _schemes(path: str) -> list[str]:
    """Return the schemes of a path; fsspec chains several, as in `zip://*.csv::s3://bucket/a`.

    A part of a chain without `://` is a protocol, too (`simplecache::s3://...`).
    """
    if "::" not in path and "://" not in path:
        return []
    return [part.partition("://")[0].lower() for part in path.split("::") if part]


def _real_paths(pattern: str) -> Iterator[Path]:
    """Yield the files behind a path or glob, or its folder where it has none yet."""
    found = glob.glob(pattern, recursive=True, include_hidden=True)  # noqa: PTH207  # absolute
    fixed = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
    for path in found or [fixed]:
        yield Path(os.path.realpath(path))


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
