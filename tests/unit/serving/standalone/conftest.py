"""All of the program but its process and TensorFlow: real sockets, models that halve."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grpc import StatusCode

from contract.wire.tensorflow_serving import SignatureDef
from contract.wire.tensors import DATA_TYPES
from serving.server.grpc.statuses import CallError
from serving.server.http.connection import Connection
from serving.server.http.connections import Connections
from serving.standalone.configuration import Batching, ModelConfig, models_of
from serving.standalone.inference import Inference
from serving.standalone.limits import Limits
from serving.standalone.monitoring import Monitoring
from serving.standalone.opening import OpenedModel
from serving.standalone.rest import RestFront, RestOptions
from serving.standalone.rpc import RpcFront, RpcOptions
from serving.standalone.running import BatchingRunner, DirectRunner, Runner
from serving.standalone.servables import Loading, Servables

Array = np.ndarray[Any, Any]
PATIENCE_SECONDS = 60.0
BROKEN = -1.0


def signature(
    inputs: Mapping[str, str], outputs: Mapping[str, str], method: str = "predict"
) -> Any:
    """Return a SignatureDef of tensors by their types; a tensor is named as its alias."""
    made = SignatureDef(method_name=f"tensorflow/serving/{method}")
    for infos, kinds in ((made.inputs, inputs), (made.outputs, outputs)):
        for name, kind in kinds.items():
            infos[name].name, infos[name].dtype = f"{name}:0", DATA_TYPES[kind]
            infos[name].tensor_shape.dim.add(size=-1)
    return made


class Halving:
    """Answers half of `x` plus the number in its folder's name; counts its calls and its rows."""

    def __init__(self, folder: Path) -> None:
        self.number = int(folder.name)
        self.is_closed = False
        self.calls: list[int] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.signatures = {
            "serving_default": signature({"x": "float32"}, {"y": "float32"}),
            "two": signature({"x": "float32", "text": "string"}, {"y": "float32", "n": "int64"}),
            "whole": signature({"x": "float32"}, {"sum": "float32"}),
            "regress": signature({"inputs": "string"}, {"outputs": "float32"}, "regress"),
            "classify": signature(
                {"inputs": "string"}, {"classes": "string", "scores": "float32"}, "classify"
            ),
        }

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.may_answer.wait(PATIENCE_SECONDS)
        if self.is_closed:
            raise AssertionError("a closed model was called")
        given = next(iter(inputs.values()))
        self.calls.append(len(given) if given.ndim else 0)
        x = inputs.get("x:0", np.zeros(len(given) if given.ndim else 0, np.float32))
        if (x == BROKEN).any():
            raise CallError(StatusCode.OUT_OF_RANGE, "minus one is out of range")
        y = x / 2 + np.float32(self.number)
        sizes = np.array([len(one) for one in given], np.float32) if given.dtype == object else y
        found: dict[str, Array] = {
            "y:0": y,
            "n:0": np.arange(len(x)) if x.ndim else np.zeros((), np.int64),
            "sum:0": np.asarray(y.sum(), np.float32),
            "outputs:0": sizes,
            "scores:0": np.stack([sizes, sizes], axis=1) if sizes.ndim == 1 else sizes,
            "classes:0": np.array([[b"odd", b"even"]] * len(sizes), object)
            if sizes.ndim
            else sizes,
        }
        return [found[name] for name in outputs]

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Program:
    """The servables of a running loop, and where the fronts listen."""

    servables: Servables
    loop: asyncio.AbstractEventLoop
    opened: dict[Path, Halving]
    rest_port: int = 0
    grpc_port: int = 0

    def await_(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_SECONDS)

    def serve(self, *models: ModelConfig) -> None:
        self.await_(self.servables.reload(models))

    def poll(self) -> None:
        self.await_(self.servables.poll())

    def states(self, name: str) -> dict[int, str]:
        async def read() -> dict[int, str]:
            return {v.number: v.state for v in self.servables.versions() if v.model == name}

        found: dict[int, str] = self.await_(read())
        return found

    def wait_for(self, name: str, states: Mapping[int, str]) -> None:
        self.wait_until(lambda: self.states(name) == states)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, [*self.servables.versions()]
            time.sleep(0.01)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, content, dict(headers or {}))
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(found) if is_json and found else found


@contextmanager
def running(
    loading: Loading | None = None,
    batching: Batching | None = None,
    opener: Any = Halving,
    *,
    checks: bool = False,
    limits: Limits = Limits(),  # noqa: B008
    rest: RestOptions | None = None,
    rpc: Mapping[str, Any] | None = None,
) -> Iterator[Program]:
    """Run the fronts in a thread; the models are those that a test then serves."""
    opened: dict[Path, Halving] = {}
    threads = ThreadPoolExecutor(4)
    ready, stop = threading.Event(), threading.Event()
    found: list[Program] = []

    def opens(path: Path) -> OpenedModel:
        opened[path] = made = opener(path)
        return made  # type: ignore[no-any-return]

    def runner_of(model: OpenedModel) -> Runner:
        return BatchingRunner(model, batching) if batching else DirectRunner(model, threads)

    async def main() -> None:
        servables = Servables(opens, runner_of, loading or Loading(retries=0))
        inference = Inference(servables, checks_method_names=checks, limits=limits)
        monitoring = Monitoring(servables)
        front = RestFront(inference, monitoring, rest or RestOptions(metrics_path="/metrics"))
        connections = Connections(front.handle, 1 << 24)
        listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(connections), "127.0.0.1", 0
        )

        async def reload(message: Any) -> None:
            await servables.reload(models_of(message))

        # A test's gRPC takes a Unix socket where it needs it.
        options = RpcOptions("127.0.0.1", None, **(rpc or {}))
        grpc_front = RpcFront(inference, reload, monitoring, options)
        if options.socket:
            await grpc_front.start()
        port = listener.sockets[0].getsockname()[1]
        found.append(Program(servables, asyncio.get_running_loop(), opened, port))
        ready.set()
        await asyncio.to_thread(stop.wait)
        listener.close()
        await grpc_front.stop(0)
        await servables.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(PATIENCE_SECONDS)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join()
        threads.shutdown()


class CountingThreads(ThreadPoolExecutor):
    """Counts what is done beside the loop."""

    count = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return super().submit(*args, **kwargs)


@contextmanager
def counted_threads(program: Program) -> Iterator[CountingThreads]:
    """Give the loop threads that count; models run in others."""
    threads = CountingThreads(2)

    async def use() -> None:
        asyncio.get_running_loop().set_default_executor(threads)

    program.await_(use())
    yield threads


def version(base: Path, number: int) -> Path:
    """Make the folder of a version."""
    folder = base / str(number)
    folder.mkdir(parents=True)
    return folder
