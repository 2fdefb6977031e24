"""The command line of `tensorflow_model_server`.

Source: tensorflow_serving/model_servers/main.cc and server.h, for names and defaults. A flag is
`--name=value` or `--name value`; a boolean one may stand alone. What has no meaning here is taken
and named in the log; what would change answers and is not supported is refused.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger("slipway")

# Of the real program; they tune what this one has not, and change no answer.
_WITHOUT_EFFECT = (
    "enable_profiler",
    "flush_filesystem_caches",
    "grpc_max_threads",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_num_threads",
    "skip_initialize_tpu",
)


@dataclass(frozen=True)
class Flags:
    """The command line; a flag that is not given has the real program's default."""

    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    host: str = "0.0.0.0"
    grpc_channel_arguments: str = ""
    ssl_config_file: str = ""
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: int = 1
    allow_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    saved_model_tags: str = "serve"
    prefer_tflite_model: bool = False
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    enable_signature_method_name_check: bool = False
    enable_serialization_as_tensor_content: bool = False
    enable_grpc_healthcheck_service: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0

    @property
    def intra_op_threads(self) -> int:
        """Threads within an operation; 0 lets TensorFlow choose."""
        return self.tensorflow_intra_op_parallelism or self.tensorflow_session_parallelism

    @property
    def inter_op_threads(self) -> int:
        """Operations side by side; 0 lets TensorFlow choose."""
        return self.tensorflow_inter_op_parallelism or self.tensorflow_session_parallelism


_HELP = {
    "port": "TCP port of gRPC; 0: none",
    "grpc_socket_path": "Unix socket of gRPC",
    "rest_api_port": "TCP port of REST; 0: none",
    "rest_api_timeout_in_ms": "how long a REST call may take",
    "rest_api_enable_cors_support": "let web pages of any origin call",
    "host": "address to listen on (not a flag of tensorflow_model_server)",
    "grpc_channel_arguments": "for the gRPC server: NAME=VALUE,NAME=VALUE",
    "ssl_config_file": "SSLConfig as text: TLS for gRPC",
    "model_name": "name of the model at --model_base_path",
    "model_base_path": "folder whose folders are versions",
    "model_config_file": "ModelServerConfig as text: several models",
    "model_config_file_poll_wait_seconds": "how often that file is read again; 0: never",
    "file_system_poll_wait_seconds": "how often versions are looked for; 0: once",
    "allow_version_labels_for_unavailable_models": "a new label may name a version not yet loaded",
    "num_load_threads": "how many versions are loaded side by side; 0: one",
    "max_num_load_retries": "how often a load is tried again",
    "load_retry_interval_micros": "microseconds between these",
    "saved_model_tags": "tags of the graph in a SavedModel, comma-separated",
    "prefer_tflite_model": "serve model.tflite where a version has one",
    "enable_batching": "let requests share calls of a model",
    "batching_parameters_file": "BatchingParameters as text",
    "monitoring_config_file": "MonitoringConfig as text: metrics for Prometheus",
    "enable_signature_method_name_check": "Classify and Regress only by signatures made for them",
    "enable_serialization_as_tensor_content": "answer Predict over gRPC in tensor_content",
    "enable_grpc_healthcheck_service": "serve grpc.health.v1",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests of a version",
    "num_request_iterations_for_warmup": "how often each of these is replayed",
    "tensorflow_session_parallelism": "threads of a session; 0: as many as cores",
    "tensorflow_intra_op_parallelism": "threads within an operation",
    "tensorflow_inter_op_parallelism": "operations side by side",
}


class _Parser(argparse.ArgumentParser):
    """Ends with the words of the real program."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\nsee {self.prog} --help\n")


def parse(arguments: Sequence[str], program: str) -> Flags:
    """Read a command line; `--help` and errors end the process as argparse does."""
    parser = _Parser(prog=program, description=__doc__, allow_abbrev=False)
    parser.add_argument("--helpfull", action="help", help="show this help message and exit")
    defaults = Flags()
    for name, words in _HELP.items():
        default = getattr(defaults, name)
        if isinstance(default, bool):
            parser.add_argument(
                f"--{name}", nargs="?", const=True, default=default, type=_boolean, help=words
            )
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default, help=words)
    for name in _WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", nargs="?", const="", help=argparse.SUPPRESS)
    found = vars(parser.parse_args(list(arguments)))
    for name in _WITHOUT_EFFECT:
        if found.pop(name) is not None:
            log.warning("--%s has no effect here", name)
    flags = Flags(**found)
    if (fault := _fault(flags)) is not None:
        parser.error(fault)
    return flags


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")


def _fault(flags: Flags) -> str | None:
    """Return what is wrong with flags together, or None."""
    if not flags.port and not flags.grpc_socket_path:
        return "one of --port and --grpc_socket_path must be set"
    if not flags.model_base_path and not flags.model_config_file:
        return "one of --model_base_path and --model_config_file must be set"
    if flags.port and flags.port == flags.rest_api_port:
        return "--port and --rest_api_port must differ"
    if flags.batching_parameters_file and not flags.enable_batching:
        return "--batching_parameters_file needs --enable_batching"
    if flags.model_base_path and not os.path.isabs(flags.model_base_path):  # noqa: PTH117 (a URI)
        return f"--model_base_path: found {flags.model_base_path!r}, expected an absolute path"
    return None
