"""From files to typed config: read a pipeline folder, apply overrides, freeze it."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from contract.errors import ConfigError, NotFoundError, did_you_mean
from contract.layout import RunLayout
from contract.places import config_folders, workspace
from contract.private_files import private_folder
from contract.schema.data import SOURCE_KEYS, SOURCE_KINDS
from contract.schema.pipeline import PipelineConfig
from contract.schema.problems import explain
from contract.schema.renamed_keys import deprecation, deprecations, new_key, with_new_keys
from contract.schema.runtime import RuntimeConfig
from contract.schema.section import is_absolute
from contract.schema.source import path_fields
from contract.storage import digest_directory, publish_directory
from contract.strict_yaml import StrictLoader, in_one_line, read_yaml

CONFIG_FILE = "pipeline.yaml"
RESOLVED_FILE = "resolved.json"

ModelT = TypeVar("ModelT", bound=BaseModel)
log = logging.getLogger(__name__)


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where this machine keeps its state: SLIPWAY_HOME, or `.slipway` in the workspace."""
    return Path(environment.get("SLIPWAY_HOME") or workspace(environment) / ".slipway").resolve()


def own_state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the state folder for somebody who writes there: only its owner may enter it.

    It is made where it is not there yet. One of another user, as of a mounted volume, stays as is.
    """
    home = state_folder(environment)
    if not home.exists() or home.stat().st_uid == os.geteuid():
        private_folder(home)
    return home


# --- reading ------------------------------------------------------------------------------------


def load_pipeline(folder: Path, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
    """Read `pipeline.yaml`, apply overrides (`{"train.steps": 200}`) and validate the whole.

    Relative source paths are taken from the pipeline's folder. Keys under an old name are read,
    with a warning in the log.

    Raises:
        ConfigError: With every problem of the file and the overrides at once.
        NotFoundError: If there is no such file.
    """
    path = folder / CONFIG_FILE
    label = f"{folder.name}/{CONFIG_FILE}"
    raw = read_yaml(path, label)
    for message in deprecations(raw):
        log.warning("%s: %s", label, message)
    try:
        raw = with_new_keys(raw)
    except ValueError as error:
        raise ConfigError([f"{label}: {error}"]) from error
    done: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        if new_key(key) != key:
            log.warning("%s", deprecation(key))
        if (earlier := _replaced_by(key, done)) is not None:
            raise ConfigError([f"{label}: the override '{key}' replaces '{earlier}'; remove one"])
        override(raw, new_key(key), value)
        done[key] = value
    config = validate(PipelineConfig, _with_absolute_sources(raw, folder), label)
    if config.name != folder.name:
        raise ConfigError(
            [f"{label}: name: found '{config.name}', expected the folder's name, '{folder.name}'"]
        )
    return config


def load_runtime(name: str) -> RuntimeConfig:
    """Read `configs/runtimes/<name>.yaml`, or the file at a path that ends in `.yaml`.

    A file of the workspace replaces one of its name that Slipway ships.
    """
    if name.endswith(".yaml"):
        folders, path = [Path(name).parent], Path(name)
    else:
        folders = config_folders("runtimes")
        paths = [folder / f"{name}.yaml" for folder in reversed(folders)]
        path = next((one for one in paths if one.exists()), paths[0])
    if not path.exists():
        known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
        raise NotFoundError(
            f"runtime '{name}': not found{did_you_mean(name, known)} (known: {', '.join(known)})"
        )
    return validate(RuntimeConfig, read_yaml(path, path.name), path.name)


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Turn `["train.steps=200", "bless.metric=auc"]` into a mapping; values are read as YAML.

    Raises:
        ConfigError: If one is not `KEY=VALUE`, or would replace what an earlier one says.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError([f"--set {assignment}: expected KEY=VALUE, as in train.steps=200"])
        if (earlier := _replaced_by(key, overrides)) is not None:
            raise ConfigError([f"--set {assignment}: replaces --set {earlier}=...; remove one"])
        try:
            overrides[key] = yaml.load(value, Loader=StrictLoader)  # noqa: TID251 (safe)
        except yaml.YAMLError as error:
            message = f"--set {assignment}: not a YAML value: {in_one_line(error)}"
            raise ConfigError([message]) from error
    return overrides


def override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key; what is there in the place of a section is replaced."""
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value


def validate(model: type[ModelT], raw: Any, label: str) -> ModelT:
    """Validate parsed YAML strictly; `label` is what messages call the file."""
    try:
        return model.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise ConfigError([explain(model, problem, label) for problem in error.errors()]) from error


# --- freezing -----------------------------------------------------------------------------------


def freeze_pipeline(folder: Path, run: RunLayout, overrides: Mapping[str, Any]) -> Path:
    """Copy config and user code into the run, once; later edits change nothing. Return the copy.

    Raises:
        ConfigError: If the run was frozen before with other overrides.
    """
    config = load_pipeline(folder, overrides)
    resolved = config.model_dump_json(indent=2)
    if run.frozen_pipeline.exists():
        frozen = load_frozen(run).model_dump_json(indent=2)
        if overrides and frozen != resolved:
            changed = ", ".join(_changed_keys(json.loads(frozen), json.loads(resolved)))
            raise ConfigError(
                [f"run '{run.run_id}': already frozen with another {changed}; start a new run"]
            )
        return run.frozen_pipeline
    with publish_directory(run.frozen_pipeline) as temporary:
        ignored = shutil.ignore_patterns("__pycache__", "data", ".*")
        shutil.copytree(folder, temporary, dirs_exist_ok=True, ignore=ignored)
        (temporary / RESOLVED_FILE).write_text(resolved, encoding="utf-8")
    return run.frozen_pipeline


def _changed_keys(one: Any, other: Any, place: str = "") -> list[str]:
    """Return the dotted keys under which two parsed configs differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [place] if one != other else []
    return [
        changed
        for key in sorted(one.keys() | other.keys())
        for changed in _changed_keys(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    ]


def load_frozen(run: RunLayout) -> PipelineConfig:
    """Read the config that the run's first step froze."""
    path = run.frozen_pipeline / RESOLVED_FILE
    if not path.exists():
        raise NotFoundError(f"run '{run.run_id}': nothing frozen at {path}; run 'ingest' first")
    raw = with_new_keys(json.loads(path.read_bytes()))
    return PipelineConfig.model_validate_json(json.dumps(raw))


def pipeline_digest(run: RunLayout) -> str:
    """Digest of the frozen config and user code together."""
    return digest_directory(run.frozen_pipeline)


# --- inside -------------------------------------------------------------------------------------


def _replaced_by(key: str, overrides: Mapping[str, Any]) -> str | None:
    """Return an earlier override of the same key, or of one below it, whatever their names."""
    key = new_key(key)
    known = {new_key(earlier): earlier for earlier in overrides}
    below = (earlier for new, earlier in known.items() if f"{new}.".startswith(f"{key}."))
    return next(below, None)


def _with_absolute_sources(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    ingest = raw.get("ingest")
    if not isinstance(ingest, dict):
        return raw

    sources = {k: _with_absolute_paths(v, folder) for k, v in ingest.items() if k in SOURCE_KEYS}
    return {**raw, "ingest": {**ingest, **sources}}


def _with_absolute_paths(source: Any, folder: Path) -> Any:
    kind = source.get("kind") if isinstance(source, dict) else None
    if not isinstance(kind, str) or kind not in SOURCE_KINDS:
        return source  # validation says what is wrong with it

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(item) for item in value]
        if isinstance(value, dict):
            return {name: absolute(item) for name, item in value.items()}
        is_relative = isinstance(value, str) and not is_absolute(value)
        return str(folder.absolute() / value) if is_relative else value

    paths = {key: absolute(source[key]) for key in path_fields(SOURCE_KINDS[kind]) if key in source}
    return {**source, **paths}
