"""The files that configure the server, in protobuf's text format: read, checked, typed.

Source of rules and messages: tensorflow_serving/model_servers/server_core.cc and
batching/batching_util.cc.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from google.protobuf import text_format
from grpc import StatusCode

from contract.errors import ConfigError
from contract.schema.serving import ServeConfig, check_batch_sizes
from contract.wire.model_server_config import (
    BatchingParameters,
    ModelServerConfig,
    MonitoringConfig,
    SSLConfig,
)
from serving.server.grpc.statuses import CallError

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions in a folder are served.

    Attributes:
        kind: The last `count` ones, those named, or all.
        count: With `latest`, at least 1.
        versions: With `specific`.
    """

    kind: Literal["latest", "specific", "all"] = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve: the folder of its versions, which of them, and names for some."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Batching:
    """How requests share calls of a model.

    Attributes:
        serve: Sizes and times.
        most_rows: Of a request; a larger one is refused.
    """

    serve: ServeConfig
    most_rows: int


def read_text(kind: Any, path: Path) -> Any:
    """Return a message from a file in text format.

    Raises:
        ConfigError: If there is no such file, or it is not such a message.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), kind())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except text_format.ParseError as error:
        name = kind.DESCRIPTOR.full_name
        raise ConfigError([f"Error parsing text-format {name}: {path}: {error}"]) from error


def read_models(path: Path) -> tuple[ModelConfig, ...]:
    """Return the models of a ModelServerConfig.

    Raises:
        ConfigError: If the file is not one.
        CallError: If it asks for what cannot be served.
    """
    return models_of(read_text(ModelServerConfig, path))


def models_of(message: Any) -> tuple[ModelConfig, ...]:
    """Return the models of a ModelServerConfig message.

    Raises:
        CallError: If it asks for what cannot be served.
    """
    if message.WhichOneof("config") == "custom_model_config":
        raise _invalid("custom_model_config is not supported; use model_config_list")
    models = tuple(_model(one) for one in message.model_config_list.config)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise _invalid(f"Illegal to list model {name} multiple times in config list")
    return models


def _model(one: Any) -> ModelConfig:
    platform = one.model_platform or ("tensorflow" if one.model_type == 1 else "")
    if one.model_platform and one.model_type:
        raise _invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {one.name}"
        )
    if not platform:
        raise _invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {one.name}"
        )
    if platform != "tensorflow":
        raise _invalid(f"Model {one.name} requests unsupported platform {platform}")
    if not Path(one.base_path).is_absolute():
        raise _invalid(
            f"Expected model {one.name} to have an absolute path; got base_path()={one.base_path} "
            "(addresses such as gs:// are not supported here)"
        )
    if one.HasField("logging_config"):
        raise _invalid(f"Model {one.name}: logging_config: No request-logger-creator provided.")
    policy = _policy(one.model_version_policy)
    return ModelConfig(one.name, Path(one.base_path), policy, dict(one.version_labels))


def _policy(message: Any) -> VersionPolicy:
    match message.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy("all")
        case "specific":
            return VersionPolicy("specific", versions=tuple(message.specific.versions))
        case _:
            return VersionPolicy("latest", max(1, message.latest.num_versions))


def read_batching(path: Path | None, cores: int) -> Batching:
    """Return batching parameters, with the real program's defaults for what the file leaves out.

    Raises:
        ConfigError: If the file is not one, or asks for what is not supported.
    """
    given = BatchingParameters() if path is None else read_text(BatchingParameters, path)
    if given.pad_variable_length_inputs:
        raise ConfigError([f"{path}: pad_variable_length_inputs: is not supported; leave it out"])
    most = _value(given, "max_batch_size", 1000)
    splits = given.HasField("enable_large_batch_splitting") and (
        given.enable_large_batch_splitting.value
    )
    together = _value(given, "max_execution_batch_size", most) if splits else most
    sizes = tuple(given.allowed_batch_sizes)
    try:
        check_batch_sizes(sizes, together)
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    values: dict[str, Any] = {
        "max_batch_size": together,
        "batch_timeout_micros": _value(given, "batch_timeout_micros", 0),
        "max_enqueued_batches": _value(given, "max_enqueued_batches", 10),
        "num_batch_threads": _value(given, "num_batch_threads", cores),
    }
    for name, value in values.items():
        if value < (0 if name == "batch_timeout_micros" else 1):
            raise ConfigError([f"{path}: {name}: found {value}, which is too small"])
    return Batching(ServeConfig(**values, allowed_batch_sizes=sizes), most)


def _value(given: Any, name: str, default: int) -> int:
    return int(getattr(given, name).value) if given.HasField(name) else default


def read_metrics_path(path: Path) -> str | None:
    """Return the path under which Prometheus asks; None if the file does not enable it."""
    config = read_text(MonitoringConfig, path).prometheus_config
    return (config.path or PROMETHEUS_PATH) if config.enable else None


def read_tls(path: Path) -> Any:
    """Return the SSLConfig in a file."""
    return read_text(SSLConfig, path)


def _invalid(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
