"""What a run may be asked for: the form in the Airflow UI, and the check of what came in.

Airflow itself checks the types of the form's fields, and takes unknown keys silently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from airflow.sdk import Param

from contract.errors import ConfigError, did_you_mean
from contract.run_rights import is_allowed
from contract.schema.pipeline import PipelineConfig
from contract.schema.rights import RunsConfig

# The fields of the form that stand for one config key each.
_CONFIG_FIELDS = {"training_steps": "train.steps", "learning_rate": "train.learning_rate"}
_KEYS = (*_CONFIG_FIELDS, "overrides", "redeploy_version", "force")


@dataclass(frozen=True)
class RunRequest:
    """One run's wishes: config overrides, a version to deploy again, no look at what is new."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    redeploy_version: int | None = None
    is_forced: bool = False

    @classmethod
    def of(cls, conf: Mapping[str, Any] | None) -> "RunRequest":
        """Read a run's `conf`.

        Raises:
            ConfigError: With everything that is wrong with it at once.
        """
        conf = conf or {}
        problems = _problems(conf)
        if problems:
            raise ConfigError(problems)
        named = {
            key: conf[name] for name, key in _CONFIG_FIELDS.items() if conf.get(name) is not None
        }
        return cls(
            overrides={**named, **(conf.get("overrides") or {})},
            redeploy_version=conf.get("redeploy_version"),
            is_forced=bool(conf.get("force")),
        )


def form(
    config: PipelineConfig | None = None, allowed: Sequence[str] = RunsConfig().overrides
) -> dict[str, Param]:
    """Return the fields of the form; what they say and allow comes from the config's schema.

    With a pipeline's config they also say what is configured now, and which keys may be overridden:
    those of `allowed`, which the runtime file has as `runs.overrides`.
    """
    fields = {name: _config_param(key, config) for name, key in _CONFIG_FIELDS.items()}
    fields["redeploy_version"] = Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Deploy this version again",
        description="Skip data and training; package this kept version again and deploy that. "
        "Empty: make a new one.",
    )
    fields["overrides"] = Param(
        {},
        type=["null", "object"],  # without null the form calls it required
        title="Overrides",
        description_md=_about_overrides(config, allowed),
    )
    return fields


def _about_overrides(config: PipelineConfig | None, allowed: Sequence[str]) -> str:
    example = 'Other config keys, as in `{"train.batch_size": 128}`; `{}` changes nothing.'
    if config is None:
        return example
    keys = _keys_of(config, allowed)
    # bold and not code: the page paints a code's background over the line above it
    lines = "\n".join(f"- **{section}.**: {', '.join(names)}" for section, names in keys)
    return f"{example} The keys that a run may override:\n\n{lines}"


def _keys_of(config: PipelineConfig, allowed: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the keys that may be overridden, by section; lists and free values are one key."""
    found: dict[str, list[str]] = {}
    for section, values in config.model_dump(mode="json", by_alias=True).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            place, names = (
                (f"{section}.{name}", value)
                if isinstance(value, dict) and value
                else (section, (name,))
            )
            if may := [one for one in names if is_allowed(f"{place}.{one}", allowed)]:
                found.setdefault(place, []).extend(may)
    return list(found.items())


def _problems(conf: Mapping[str, Any]) -> list[str]:
    problems = [
        f"conf: {key}: unknown key{did_you_mean(key, _KEYS)} (known: {', '.join(_KEYS)})"
        for key in conf
        if key not in _KEYS
    ]
    overrides = conf.get("overrides")
    if overrides is not None and not isinstance(overrides, dict):
        problems.append(
            'conf: overrides: expected an object of config keys and values, as in {"train.steps": '
            f"200}}, found {overrides!r}"
        )
    version = conf.get("redeploy_version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
        problems.append(f"conf: redeploy_version: expected a version number, found {version!r}")
    return problems


def _config_param(key: str, config: PipelineConfig | None) -> Param:
    schema = _schema_of(key)
    limits = {k: v for k, v in schema.items() if "inimum" in k or "aximum" in k}
    title = f"{schema['title']} ({key})"
    described = schema.get("description", "")
    description = f"{described} {_configured(key, config)}".strip()
    return Param(
        None, type=["null", schema["type"]], title=title, description=description, **limits
    )


def _configured(key: str, config: PipelineConfig | None) -> str:
    if config is None:
        return "Empty: as configured."
    section, name = key.split(".")
    return f"Empty: {getattr(getattr(config, section), name):,}, as configured."


@cache
def _schema_of(key: str) -> dict[str, Any]:
    """Return the JSON Schema of one config key such as `train.steps`."""
    section, name = key.split(".")
    model = PipelineConfig.model_fields[section].annotation
    assert model is not None
    properties = model.model_json_schema()["properties"]
    return dict(properties[name])
