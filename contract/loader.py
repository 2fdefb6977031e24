"""From files to typed config: read a pipeline folder, apply overrides, freeze it."""

import difflib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from contract.errors import ConfigError, NotFoundError, did_you_mean
from contract.layout import RunLayout
from contract.places import config_folders, workspace
from contract.schema.data import SOURCE_KEYS, SOURCE_KINDS
from contract.schema.pipeline import PipelineConfig
from contract.schema.renamed_keys import deprecation, deprecations, new_key, with_new_keys
from contract.schema.runtime import RuntimeConfig
from contract.schema.section import is_absolute
from contract.schema.source import path_fields
from contract.storage import digest_directory, publish_directory

CONFIG_FILE = "pipeline.yaml"
RESOLVED_FILE = "resolved.json"

ModelT = TypeVar("ModelT", bound=BaseModel)
log = logging.getLogger(__name__)


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where this machine keeps its state: SLIPWAY_HOME, or `.slipway` in the workspace."""
    return Path(environment.get("SLIPWAY_HOME") or workspace(environment) / ".slipway").resolve()


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
    raw = _read_yaml(path, label)
    for message in deprecations(raw):
        log.warning("%s: %s", label, message)
    try:
        raw = with_new_keys(raw)
    except ValueError as error:
        raise ConfigError([f"{label}: {error}"]) from error
    for key, value in (overrides or {}).items():
        if new_key(key) != key:
            log.warning("%s", deprecation(key))
        _override(raw, new_key(key), value)
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
    return validate(RuntimeConfig, _read_yaml(path, path.name), path.name)


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Turn `["train.steps=200", "bless.metric=auc"]` into a mapping; values are read as YAML."""
    overrides = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError([f"--set {assignment}: expected KEY=VALUE, as in train.steps=200"])
        try:
            overrides[key.strip()] = yaml.load(value, Loader=_StrictLoader)  # noqa: TID251 (safe)
        except yaml.YAMLError as error:
            message = f"--set {assignment}: not a YAML value: {_in_one_line(error)}"
            raise ConfigError([message]) from error
    return overrides


def validate(model: type[ModelT], raw: Any, label: str) -> ModelT:
    """Validate parsed YAML strictly; `label` is what messages call the file."""
    try:
        return model.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise ConfigError(
            [_explain(model, problem, label) for problem in error.errors()]
        ) from error


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


if TYPE_CHECKING:
    from yaml import SafeLoader
else:  # libyaml's, where PyYAML was built with it: eight times as fast
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_TEXT_TAG = "tag:yaml.org,2002:str"
_LISTS_OF_TEXT = frozenset({"classes"})  # keys whose items are text by definition, quoted or not


class _StrictLoader(SafeLoader):
    """Refuses a key that a mapping has twice: YAML itself takes the last and says nothing.

    Keys, and the names of classes, are text as it is written: YAML 1.1 would make truth values of
    `no` and `on`, numbers of `2020` and `1_000`, and dates of `2020-01-01`.

    ruamel.yaml refuses such keys with their place, too. It is not used: it reads YAML 1.2, which
    would change values (`no`, `017`, `1e3`), takes 1.2 ms for a file instead of 0.3, and 0.1 s to
    import.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping of keys that differ."""
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                first = seen.setdefault(key.value, key.start_mark)
                if first is not key.start_mark:
                    again = f"key '{key.value}' is repeated; it is also on line {first.line + 1}"
                    raise yaml.constructor.ConstructorError(None, None, again, key.start_mark)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = _TEXT_TAG
                if key.value in _LISTS_OF_TEXT and isinstance(value, yaml.SequenceNode):
                    for item in value.value:
                        item.tag = _TEXT_TAG if isinstance(item, yaml.ScalarNode) else item.tag
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def _read_yaml(path: Path, label: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: TID251 (safe)
    except FileNotFoundError as error:
        raise NotFoundError(f"{label}: no such file: {path}") from error
    except OSError as error:
        raise ConfigError([f"{label}: cannot be read: {error.strerror}: {path}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{label}: not readable as YAML: {_in_one_line(error)}"]) from error
    if raw is None:
        raise ConfigError([f"{label}: empty; expected keys and values"])
    if not isinstance(raw, dict):
        raise ConfigError(
            [f"{label}: expected keys and values, found {json.dumps(raw, default=str)[:40]}"]
        )
    return raw


def _in_one_line(error: Exception) -> str:
    """Return what PyYAML says in several lines, without a picture of the place."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = ", ".join(filter(None, (getattr(error, "context", None), error.problem)))  # type: ignore[attr-defined]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _override(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value


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
        is_relative = isinstance(value, str) and not is_absolute(value)
        return str(folder.absolute() / value) if is_relative else value

    paths = {key: absolute(source[key]) for key in path_fields(SOURCE_KINDS[kind]) if key in source}
    return {**source, **paths}


def _explain(model: type[BaseModel], problem: ErrorDetails, label: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(model, problem["loc"])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.6)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"
        return f"{label}: {where}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{label}: {where}: missing"
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
        return f"{label}: {where}: {_unquoted(problem['input'])}"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if isinstance(problem["input"], dict) else f", found {problem['input']!r}"
    return f"{label}: {where}: {message}{found}" if where else f"{label}: {message}"


def _unquoted(found: bool | int | float) -> str:
    if not isinstance(found, bool):
        return f'expected text, found the number {found}; quote it: "{found}"'
    written = "yes, on or true" if found else "no, off or false"
    return (
        f"expected text, found the truth value that YAML makes of an unquoted {written}; quote it"
    )


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that would have been accepted where an unknown one stands."""
    candidates: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        candidates = [
            inner
            for candidate in candidates
            for inner in (_field_models(candidate, part) or _tagged(candidate, part) or [candidate])
        ]
    return sorted(
        {field.alias or name for c in candidates for name, field in c.model_fields.items()}
    )


def _field_models(model: type[BaseModel], key: int | str) -> list[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return list(_models_in(field.annotation))
    return []


def _tagged(model: type[BaseModel], tag: int | str) -> list[type[BaseModel]]:
    kind = model.model_fields.get("kind")
    return [model] if kind is not None and tag in get_args(kind.annotation) else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
