"""The life of the process: read the files, load, open the ports, poll, drain."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from contract.errors import ConfigError, UserError
from serving.server.frame import is_done_before, stop_on_signals, sweep
from serving.server.grpc.statuses import CallError
from serving.server.http.connections import Connections
from serving.server.http.port import Port, bind
from serving.standalone.configuration import (
    Batching,
    ModelConfig,
    models_of,
    read_batching,
    read_metrics_path,
    read_models,
    read_tls,
)
from serving.standalone.flags import Flags
from serving.standalone.inference import Inference
from serving.standalone.monitoring import Monitoring
from serving.standalone.opening import OpenedModel, open_version
from serving.standalone.rest import MAX_BODY_BYTES, RestFront, RestOptions
from serving.standalone.rpc import RpcFront, RpcOptions
from serving.standalone.running import BatchingRunner, DirectRunner, Runner
from serving.standalone.servables import Loading, Servables
from serving.standalone.warm_up import warm_up

log = logging.getLogger("slipway")

_DRAIN_SECONDS = 20.0


@dataclass
class Readiness:
    """What the health service tells."""

    is_draining: bool = False
    is_ready: bool = False

    @property
    def state(self) -> str:
        """In the words of TensorFlow Serving."""
        return "UNLOADING" if self.is_draining else "AVAILABLE" if self.is_ready else "LOADING"


class StandaloneServer:
    """All models behind a port of gRPC and one of REST."""

    def __init__(self, flags: Flags) -> None:
        """Read the files that the flags name.

        Raises:
            UserError: If one of them is not what it should be.
        """
        self._flags = flags
        with _refusals_as_errors():
            self._models = _models(flags)
        cores = len(os.sched_getaffinity(0))
        self._batching = _batching(flags, cores)
        self._rest_options = _rest_options(flags)
        self._credentials = credentials(flags.ssl_config_file)
        self._threads = ThreadPoolExecutor(4 * cores, "model")
        self._readiness = Readiness()
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: Connections | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then answer what is in flight.

        The ports are opened when every model has a version that is available.

        Raises:
            UserError: If a port cannot be used, or a model did not become available.
        """
        stop = stop_on_signals()
        servables = self._servables()
        self._poll(self._flags.file_system_poll_wait_seconds, servables.poll)
        try:
            with _refusals_as_errors():
                if await is_done_before(stop, servables.reload(self._models)):
                    await self._serve(servables, stop)
        finally:
            for task in self._tasks:
                task.cancel()
            await servables.close()

    def _servables(self) -> Servables:
        flags = self._flags
        loading = Loading(
            max(1, flags.num_load_threads),
            max(0, flags.max_num_load_retries),
            max(0, flags.load_retry_interval_micros) / 1e6,
            flags.allow_version_labels_for_unavailable_models,
        )
        return Servables(partial(opened_warm, flags=flags), self._runner_of, loading)

    def _runner_of(self, model: OpenedModel) -> Runner:
        if self._batching is None:
            return DirectRunner(model, self._threads)
        return BatchingRunner(model, self._batching)

    async def _serve(self, servables: Servables, stop: asyncio.Event) -> None:
        flags = self._flags
        checks = flags.enable_signature_method_name_check
        inference = Inference(servables, checks_method_names=checks)
        monitoring = Monitoring(servables)
        rest = RestFront(inference, monitoring, self._rest_options)
        self._connections = Connections(rest.handle, MAX_BODY_BYTES)
        port = await self._open_port(self._connections)

        async def reload(message: Any) -> None:
            await servables.reload(models_of(message))

        rpc = RpcFront(inference, reload, monitoring, self._rpc_options())
        await rpc.start()
        self._readiness.is_ready = True
        self._announce(has_rest=port is not None)
        if flags.model_config_file:
            wait = flags.model_config_file_poll_wait_seconds
            self._poll(wait, partial(self._read_again, servables))
        self._tasks.append(asyncio.create_task(sweep(self._connections)))
        await stop.wait()
        await self._drain(port, rpc)

    async def _open_port(self, connections: Connections) -> Port | None:
        host, number = self._flags.host, self._flags.rest_api_port
        if not number:
            return None
        port = Port(bind(host, number, "--rest_api_port"), connections)
        await port.open()
        return port

    def _rpc_options(self) -> RpcOptions:
        flags = self._flags
        return RpcOptions(
            flags.host,
            flags.port or None,
            flags.grpc_socket_path,
            channel_arguments(flags.grpc_channel_arguments),
            self._credentials,
            flags.enable_serialization_as_tensor_content,
            self._readiness if flags.enable_grpc_healthcheck_service else None,
        )

    def _announce(self, has_rest: bool) -> None:
        flags = self._flags
        if flags.port:
            log.info("Running gRPC ModelServer at %s:%d ...", flags.host, flags.port)
        if flags.grpc_socket_path:
            log.info("Running gRPC ModelServer at UNIX socket %s ...", flags.grpc_socket_path)
        if has_rest:
            log.info("Exporting HTTP/REST API at:%s:%d ...", flags.host, flags.rest_api_port)

    # --- polling --------------------------------------------------------------------------------

    def _poll(self, seconds: float, work: Any) -> None:
        if seconds > 0:
            self._tasks.append(asyncio.create_task(repeated(seconds, work)))

    async def _read_again(self, servables: Servables) -> None:
        try:
            models = await asyncio.to_thread(read_models, Path(self._flags.model_config_file))
            await servables.reload(models)
        except (ConfigError, CallError) as error:
            log.error("the model config was not taken: %s", error)

    # --- the end --------------------------------------------------------------------------------

    async def _drain(self, port: Port | None, rpc: RpcFront) -> None:
        self._readiness.is_draining = True
        deadline = time.monotonic() + _DRAIN_SECONDS
        connections = self._connections
        assert connections is not None
        connections.is_draining = True
        if port is not None:
            port.close()
        await rpc.stop(_DRAIN_SECONDS)
        left = 0 if port is None else await port.finish(deadline)
        log.info("drained: %d requests cut off", left)


def opened_warm(folder: Path, flags: Flags) -> OpenedModel:
    """Load what is in a version's folder, and replay the requests that it brings.

    Raises:
        DataError: If it cannot be loaded, or one of these requests fails.
    """
    opened = open_version(folder, flags)
    try:
        if flags.enable_model_warmup:
            warm_up(opened, folder, max(1, flags.num_request_iterations_for_warmup))
    except Exception:
        opened.close()
        raise
    return opened


def _models(flags: Flags) -> tuple[ModelConfig, ...]:
    if flags.model_config_file:
        return read_models(Path(flags.model_config_file))
    return (ModelConfig(flags.model_name, Path(flags.model_base_path)),)


def _batching(flags: Flags, cores: int) -> Batching | None:
    if not flags.enable_batching:
        return None
    path = flags.batching_parameters_file
    return read_batching(Path(path) if path else None, cores)


def _rest_options(flags: Flags) -> RestOptions:
    file = flags.monitoring_config_file
    return RestOptions(
        flags.rest_api_timeout_in_ms / 1000,
        read_metrics_path(Path(file)) if file else None,
        flags.rest_api_enable_cors_support,
    )


def credentials(file: str) -> grpc.ServerCredentials | None:
    """Return the credentials in an SSLConfig file; None without a file.

    Raises:
        ConfigError: If the file is not one, or clients cannot be verified by it.
    """
    if not file:
        return None
    config = read_tls(Path(file))
    if config.client_verify and not config.custom_ca:
        raise ConfigError(
            [f"{file}: client_verify: found no custom_ca; write the certificates of those who "
             "sign the clients' certificates there"]
        )  # fmt: skip
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Return NAME=VALUE,NAME=VALUE as gRPC takes them: whole numbers as such, the rest as text."""
    made: list[tuple[str, int | str]] = []
    for pair in text.split(",") if text else ():
        name, _, value = pair.partition("=")
        is_number = value.removeprefix("-").isdecimal()
        made.append((name, int(value) if is_number else value))
    return made


async def repeated(seconds: float, work: Any) -> None:
    """Do work again and again, each time after so many seconds; a failure goes into the log."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # the next time may go well
            log.exception("background work failed; it is tried again in %g seconds", seconds)


@contextmanager
def _refusals_as_errors() -> Iterator[None]:
    """Turn the status that a caller would get for models into an error of the program."""
    try:
        yield
    except CallError as error:
        raise UserError(f"{error.code.name}: {error}") from error
