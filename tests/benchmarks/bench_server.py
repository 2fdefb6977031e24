"""What a request costs the model server, beside a plain FastAPI app and the bare model call.

Prints JSON lines {name, ours, peer, limit, ratio, unit}. `ours` is the server as it is shipped:
validation, metrics and prediction log on; names with `litert` are of the same server with the
engine that the optimiser chooses for such a model, those with `grpc` of TensorFlow Serving's
Predict over gRPC instead of REST. `peer` is FastAPI on uvicorn (uvloop, httptools) that does the
same with the same SavedModel and batches nothing; `limit` is that model alone, called in process
with the same rows, batched. CPU time is the server process's own, load
comes from a second process. Each figure is the median of five rounds in which the servers take
turns.

    python tests/benchmarks/bench_server.py [--callers 64] [--seconds 3]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from contract.free_ports import free_port  # noqa: E402
from contract.records.optimization import ServedEngine  # noqa: E402
from contract.records.package import InputSpec, PackageManifest, Provenance  # noqa: E402
from contract.schema.data import HeadConfig  # noqa: E402
from contract.schema.serving import ServeConfig  # noqa: E402
from contract.storage import digest_directory  # noqa: E402

ROUNDS = 5
PREDICT = "/tensorflow.serving.PredictionService/Predict"
WARM_SECONDS = 0.5


# --- the model and its two servers --------------------------------------------------------------


def save_model(path: Path) -> None:
    """Save an MLP 64→128→10 with random weights."""
    import tensorflow as tf

    generator = np.random.default_rng(7)

    class Digits(tf.Module):
        def __init__(self) -> None:
            self.hidden = tf.Variable(generator.normal(0, 0.3, (64, 128)).astype(np.float32))
            self.out = tf.Variable(generator.normal(0, 0.3, (128, 10)).astype(np.float32))

        @tf.function
        def default(self, image: Any) -> dict[str, Any]:
            return {"scores": tf.nn.softmax(tf.nn.relu(image @ self.hidden) @ self.out)}

    module = Digits()
    signature = module.default.get_concrete_function(
        image=tf.TensorSpec([None, 64], tf.float32, name="image")
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": signature})


def make_litert(model: str, target: str) -> None:
    """Write the model's files for LiteRT, as the optimiser does."""
    from components.optimize.engines.core import Core
    from components.optimize.engines.kinds import KINDS, make

    rows = {"image": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}
    with tempfile.TemporaryDirectory() as parts:
        make(Core.of(Path(model), rows, Path(parts)), KINDS["litert"], Path(target))


def write_package(folder: Path) -> None:
    """Package the model that lies in `folder/model`, and its engine if that has one."""
    engine = ServedEngine()
    if (folder / "engine").is_dir():
        digest = digest_directory(folder / "engine")
        engine = ServedEngine(name="litert", path="engine", digest=digest, tolerance=1e-4)
    classes = tuple(str(digit) for digit in range(10))
    PackageManifest(
        pipeline="digits",
        version=1,
        created_at=datetime.now(UTC),
        digest=digest_directory(folder / "model"),
        inputs={"image": InputSpec(dtype="float32", shape=(64,))},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=classes)},
        serve=ServeConfig(),
        engine=engine,
        provenance=Provenance(run_id="bench", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")


def serve_fastapi(model: str, port: int) -> None:
    """Run the peer: JSON in, checked array, signature call, JSON out; no batching."""
    import tensorflow as tf
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(model)
    signature = loaded.signatures["serving_default"]
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "serving"}

    @app.post("/v1/models/digits:predict")
    async def predict(request: Request) -> JSONResponse:
        body = json.loads(await request.body())
        rows = np.array([row["image"] for row in body["instances"]], np.float32)
        if rows.shape[1:] != (64,) or not np.isfinite(rows).all():
            return JSONResponse({"error": "bad input"}, 400)
        scores = signature(image=tf.constant(rows))["scores"].numpy()
        return JSONResponse({"predictions": scores.tolist()})

    app.state.loaded = loaded
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False)


@contextmanager
def running(*command: str, port: int) -> Iterator[psutil.Process]:
    """Start a server process and wait until it is healthy."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        asyncio.run(until_healthy(port, process))
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def until_healthy(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer.split(b"\r\n")[0]:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit(f"the server on port {port} ended with {process.returncode}")


# --- the load, in a process of its own ----------------------------------------------------------


class Caller(asyncio.Protocol):
    """Sends one request after the other on one connection and notes how long each took."""

    def __init__(self, bodies: list[bytes], seconds: list[float]) -> None:
        self.bodies, self.seconds = bodies, seconds
        self.number = self.errors = 0
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send()

    def send(self) -> None:
        body = self.bodies[self.number % len(self.bodies)]
        self.number += 1
        self.received, self.sent_at = b"", time.perf_counter()
        self.transport.write(
            b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n"
            b"content-type: application/json\r\nx-request-id: %x-%x\r\ncontent-length: %d\r\n\r\n%b"
            % (id(self), self.number, len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self.seconds.append(time.perf_counter() - self.sent_at)
        self.send()


async def load(port: int, callers: int, seconds: float, pid: int) -> dict[str, float]:
    """Load a server; return its CPU-µs a request, requests/s and latencies."""
    generator = np.random.default_rng(0)
    bodies = [
        json.dumps({"instances": [{"image": row.round(4).tolist()}]}).encode()
        for row in generator.normal(size=(32, 64))
    ]
    taken: list[float] = []
    loop, server = asyncio.get_running_loop(), psutil.Process(pid)
    protocols = [
        (await loop.create_connection(lambda: Caller(bodies, taken), "127.0.0.1", port))[1]
        for _ in range(callers)
    ]
    figures = await figures_of(taken, seconds, server, [])
    if errors := sum(protocol.errors for protocol in protocols):
        raise SystemExit(f"{errors} errors")
    return figures


async def load_grpc(port: int, callers: int, seconds: float, pid: int) -> dict[str, float]:
    """Do what `load` does by TensorFlow Serving's Predict, on eight connections."""
    import grpc

    from contract.wire.tensorflow_serving import PredictRequest
    from contract.wire.tensors import tensor_of

    bodies = []
    for row in np.random.default_rng(0).normal(size=(32, 1, 64)).astype(np.float32):
        request = PredictRequest(model_spec={"name": "digits"})
        request.inputs["image"].CopyFrom(tensor_of(row))
        bodies.append(request.SerializeToString())
    taken: list[float] = []
    channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(min(callers, 8))
    ]

    async def call(number: int) -> None:
        method = channels[number % len(channels)].unary_unary(PREDICT)
        while True:
            sent_at = time.perf_counter()
            await method(bodies[number % len(bodies)])
            taken.append(time.perf_counter() - sent_at)

    tasks = [asyncio.create_task(call(number)) for number in range(callers)]
    return await figures_of(taken, seconds, psutil.Process(pid), tasks)


async def figures_of(
    taken: list[float], seconds: float, server: psutil.Process, tasks: "list[asyncio.Task[None]]"
) -> dict[str, float]:
    """Let the callers run for some time; return what the server spent and how long they waited."""
    await asyncio.sleep(WARM_SECONDS)
    taken.clear()
    began, cpu = time.perf_counter(), sum(server.cpu_times()[:2])
    await asyncio.sleep(seconds)
    count, elapsed = len(taken), time.perf_counter() - began
    cpu = sum(server.cpu_times()[:2]) - cpu
    failed = [task for task in tasks if task.done()]
    if failed or not count:
        raise SystemExit(f"{len(failed)} callers failed, {count} answers")
    for task in tasks:
        task.cancel()
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    return {"cpu_us": cpu / count * 1e6, "rate": count / elapsed, "p50_ms": p50, "p99_ms": p99}


def measure(
    port: int, callers: int, seconds: float, pid: int, protocol: str = "load"
) -> dict[str, float]:
    """Run `load` in a second process, or `load-grpc`."""
    command = [sys.executable, __file__, f"--{protocol}", f"{port},{callers},{seconds},{pid}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def model_only(model: str) -> dict[str, float]:
    """Return the CPU-µs a row of calling the model in process, 64 rows a call."""
    import tensorflow as tf

    signature = tf.saved_model.load(model).signatures["serving_default"]
    rows = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    for _ in range(100):
        signature(image=tf.constant(rows))
    cpu, calls = time.process_time(), 2000
    for _ in range(calls):
        signature(image=tf.constant(rows))["scores"].numpy()
    return {"cpu_us": (time.process_time() - cpu) / calls / len(rows) * 1e6}


def measure_model(model: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--model-only", model],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- the figures --------------------------------------------------------------------------------


def compare(
    packages: dict[str, Path], callers: int, seconds: float
) -> dict[str, list[dict[str, float]]]:
    """Measure the server of each package, the peer and the bare model in turns."""
    rounds: dict[str, list[dict[str, float]]] = {"peer": [], "limit": []}
    model, peer_port = str(packages["tensorflow"] / "model"), free_port()
    with ExitStack() as stack:
        servers, by_grpc = {}, {}
        for name, package in packages.items():
            port, by_grpc[name] = free_port(), free_port()
            server = ["-m", "serving.server", "--package", str(package), "--port", str(port)]
            server += ["--predictions", str(package / "predictions")]
            server += ["--grpc-port", str(by_grpc[name])]
            servers[name] = port, stack.enter_context(running(*server, port=port))
        peer = [__file__, "--fastapi", f"{model},{peer_port}"]
        servers["peer"] = peer_port, stack.enter_context(running(*peer, port=peer_port))
        for _ in range(ROUNDS):
            for name, (port, process) in servers.items():
                figures = measure(port, callers, seconds, process.pid)
                rounds.setdefault(name, []).append(figures)
                if (grpc_port := by_grpc.get(name)) is not None:
                    figures = measure(grpc_port, callers, seconds, process.pid, "load-grpc")
                    rounds.setdefault(f"{name}_grpc", []).append(figures)
            rounds["limit"].append(measure_model(model))
    return rounds


FIGURES = {"cpu_us": "CPU-µs/request", "rate": "requests/s", "p50_ms": "ms", "p99_ms": "ms"}


def report(rounds: dict[str, list[dict[str, float]]], callers: int) -> None:
    """Print one JSON line for each figure of each of our servers."""

    def median(who: str, figure: str) -> float | None:
        values = [r[figure] for r in rounds[who] if figure in r]
        return round(statistics.median(values), 3) if values else None

    for ours in (name for name in rounds if name not in ("peer", "limit")):
        of = "" if ours == "tensorflow" else f"{ours.removeprefix('tensorflow_')}_"
        for figure, unit in FIGURES.items():
            line: dict[str, Any] = {"name": f"server_{of}{figure}_{callers}_callers"}
            line |= {"ours": median(ours, figure)}
            line |= {who: median(who, figure) for who in ("peer", "limit")}
            line["ratio"] = round(line["ours"] / line["peer"], 3)
            print(json.dumps(line | {"unit": unit}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    for internal in ("--load", "--load-grpc", "--fastapi", "--model-only", "--litert"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load or given.load_grpc:
        port, callers, seconds, pid = (given.load or given.load_grpc).split(",")
        loading = load if given.load else load_grpc
        print(json.dumps(uvloop.run(loading(int(port), int(callers), float(seconds), int(pid)))))
    elif given.fastapi:
        model, _, port = given.fastapi.rpartition(",")
        serve_fastapi(model, int(port))
    elif given.litert:
        model, _, target = given.litert.partition(",")
        Path(target).mkdir()
        make_litert(model, target)
    elif given.model_only:
        print(json.dumps(model_only(given.model_only)))
    else:
        with tempfile.TemporaryDirectory() as place:
            packages = {name: Path(place) / name for name in ("tensorflow", "litert")}
            for folder in packages.values():
                save_model(folder / "model")
            litert = [str(packages["litert"] / part) for part in ("model", "engine")]
            subprocess.run([sys.executable, __file__, "--litert", ",".join(litert)], check=True)
            for folder in packages.values():
                write_package(folder)
            report(compare(packages, given.callers, given.seconds), given.callers)


if __name__ == "__main__":
    main()
