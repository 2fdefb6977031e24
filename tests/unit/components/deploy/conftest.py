"""A stand-in for the serving agent at the process border: its HTTP API over a simulated traffic."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from components.deploy.deployment import Clock, Deployment
from components.runs.agent_client import AgentClient
from components.runs.tracking import Tracker
from contract.layout import PipelineLayout
from contract.records.evaluation import BlessRecord
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Arm, ArmObservation, Hold, Observation, TrafficPlan
from contract.schema.pipeline import PipelineConfig
from contract.storage import digest_directory

TOKEN = "a-token"
BOUNDS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 1000.0)


@dataclass
class VirtualTime:
    """Time that passes only when somebody sleeps."""

    seconds: float = 0.0

    def clock(self) -> Clock:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return Clock(
            now=lambda: start + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Behaviour:
    """How one version answers."""

    error_ratio: float = 0.0
    client_error_ratio: float = 0.0
    hanging_ratio: float = 0.0
    latency_ms: float = 3.0
    disagreement_ratio: float = 0.0
    is_ready: bool = True


@dataclass
class World:
    """Plans and counters behind the API; traffic flows while virtual time passes."""

    time: VirtualTime = field(default_factory=VirtualTime)
    requests_per_second: float = 4000.0
    behaviours: dict[int, Behaviour] = field(default_factory=dict)
    plan: TrafficPlan = field(default_factory=lambda: TrafficPlan(pipeline="digits"))
    plans: list[TrafficPlan] = field(default_factory=list)
    counters: dict[int, ArmObservation] = field(default_factory=dict)
    on_observation: Callable[["World"], None] = lambda _: None
    before_proposal: Callable[["World"], None] = lambda _: None
    unavailable_answers: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    observed_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)  # of comparing and setting

    def of(self, version: int) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def put(self, plan: TrafficPlan) -> TrafficPlan:
        self.plan = plan.stored_after(self.plan, self.time.clock().now())
        self.plans.append(self.plan)
        return self.plan

    def hold(self, percent: int, reason: str = "") -> None:
        """Pause the trial in the plan, as the agent does."""
        hold = Hold(version=2, weight_percent=percent, author="ada", reason=reason)
        self._hold(hold)

    def release(self) -> None:
        self._hold(None)

    def _hold(self, hold: Hold | None) -> None:
        changes = {"hold": hold, "generation": self.plan.generation + 1}
        self.plan = self.plan.model_copy(update=changes)

    def observe(self) -> Observation:
        self.on_observation(self)
        self._flow(round(self.requests_per_second * (self.time.seconds - self.observed_at)))
        self.observed_at = self.time.seconds
        are_ready = all(self.of(arm.version).is_ready for arm in self.plan.arms)
        return Observation(
            pipeline="digits",
            generation=self.plan.generation if are_ready else self.plan.generation - 1,
            observed_at=datetime.now(UTC),
            versions=tuple(
                self.counters.get(v, ArmObservation(version=v, is_ready=False)).model_copy(
                    update={"is_ready": self.of(v).is_ready}
                )
                for v in sorted(self.plan.versions)
            ),
        )

    def _flow(self, requests: int) -> None:
        shares = [arm.weight_percent / 100 for arm in self.plan.arms]
        split = self.random.multinomial(requests, shares).tolist() if shares else []
        for arm, share in zip(self.plan.arms, split, strict=True):
            self._count(arm.version, share)
        if self.plan.shadow:
            seen = round(requests * self.plan.shadow.percent / 100)
            self._count(self.plan.shadow.version, seen, is_shadow=True)

    def _count(self, version: int, requests: int, is_shadow: bool = False) -> None:
        before = self.counters.get(version) or ArmObservation(
            version=version,
            is_ready=True,
            latency_bounds_ms=BOUNDS_MS,
            latency_counts=(0,) * len(BOUNDS_MS),
        )
        how = self.of(version)
        hanging = int(self.random.binomial(requests, how.hanging_ratio))
        requests -= hanging
        errors = int(self.random.binomial(requests, how.error_ratio))
        refused = int(self.random.binomial(requests - errors, how.client_error_ratio))
        times = self.random.gamma(4.0, how.latency_ms / 4.0, requests)
        compared = requests - errors if is_shadow else 0
        self.counters[version] = before.model_copy(
            update={
                "requests": before.requests + requests,
                "errors": before.errors + errors,
                "client_errors": before.client_errors + refused,
                "active": before.active + hanging,
                "latency_counts": tuple(
                    count + int((times <= bound).sum())
                    for bound, count in zip(BOUNDS_MS, before.latency_counts, strict=True)
                ),
                "latency_total": before.latency_total + requests,
                "compared": before.compared + compared,
                "disagreements": before.disagreements
                + int(self.random.binomial(compared, how.disagreement_ratio)),
            }
        )


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self._is_refused():
                return
            if self.path.endswith("/plan"):
                self._answer(200, world.plan.model_dump(mode="json"))
            else:
                self._answer(200, world.observe().model_dump(mode="json"))

        def do_PUT(self) -> None:
            if self._is_refused():
                return
            body = self.rfile.read(int(self.headers["content-length"]))
            proposed = TrafficPlan.model_validate_json(body)
            world.before_proposal(world)
            with world.lock:
                self._take(proposed)

        def _take(self, proposed: TrafficPlan) -> None:
            if 999 in proposed.versions:
                self._answer(422, {"error": "version 999 is not kept"})
            elif proposed.generation != world.plan.generation:
                current = world.plan.model_dump(mode="json")
                self._answer(409, {"error": "generation differs", "plan": current})
            else:
                self._answer(200, world.put(proposed).model_dump(mode="json"))

        def _is_refused(self) -> bool:
            if world.unavailable_answers > 0:
                world.unavailable_answers -= 1
                self._answer(503, {"error": "starting"})
                return True
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self._answer(401, {"error": "no"})
                return True
            return False

        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def served(world: World) -> World:
    """Version 1 is in service."""
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    world.put(TrafficPlan(pipeline="digits", arms=arms, author="run r1"))
    return world


@pytest.fixture
def agent_url(world: World) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(world))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(agent_url: str) -> Iterator[AgentClient]:
    with AgentClient(agent_url, TOKEN, patience_seconds=1.0) as client:
        yield client


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path / "root", "digits")


def a_config(**deploy: object) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "digits",
            "features": {"image": {"dtype": "float32", "shape": (64,)}},
            "heads": {"label": {"task": "binary_classification", "classes": ("a", "b")}},
            "ingest": {"source": {"kind": "sklearn", "dataset": "digits"}},
            "deploy": deploy,
        }
    )


def a_package(
    layout: PipelineLayout, version: int, compared_with: int | None, run_id: str = "r1"
) -> PackageManifest:
    folder = layout.version(version)
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_text(f"version {version}")
    manifest = PackageManifest(
        pipeline="digits",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest=digest_directory(folder / "model"),
        inputs={"image": InputSpec(dtype="float32", shape=(64,))},
        heads=a_config().heads,
        serve=a_config().serve,
        compared_with_version=compared_with,
        provenance=Provenance(run_id=run_id, git_commit="", data_digests={}, versions={}),
    )
    manifest.write(folder / "package.json")
    return manifest


@pytest.fixture
def make_package() -> Callable[..., PackageManifest]:
    return a_package


MakeDeployment = Callable[..., Deployment]


@pytest.fixture
def make_deployment(
    client: AgentClient, layout: PipelineLayout, tmp_path: Path, world: World
) -> MakeDeployment:
    """Make a deployment of version 2, compared with version 1 unless told otherwise."""

    def make(
        version: int = 2, compared_with: int | None = 1, is_blessed: bool = True, **deploy: object
    ) -> Deployment:
        deploy = {"min_seconds_per_step": 2.0, **deploy}
        output = tmp_path / f"output-{version}"
        output.mkdir(exist_ok=True)
        return Deployment(
            client=client,
            layout=layout,
            config=a_config(**deploy),
            manifest=a_package(layout, version, compared_with, f"r{version}"),
            bless=BlessRecord(
                is_blessed=is_blessed,
                candidate="candidate",
                step=1,
                champion_version=compared_with,
                reasons=("because",),
            ),
            author=f"run r{version}",
            output=output,
            tracker=Tracker(),
            check_attempt=lambda: None,
            clock=world.time.clock(),
        )

    return make
