"""The agent's process: one lock, one API, and threads that never wait for each other."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from contract.errors import ConfigError, SlipwayError
from contract.storage import sole_lock
from serving.agent.access import Access
from serving.agent.api import control_api
from serving.agent.backends.registry import backend_kind
from serving.agent.draining import Draining
from serving.agent.hosts.host import ServerHost
from serving.agent.hosts.supervised_servers import SupervisedServers
from serving.agent.leases import TrialLeases
from serving.agent.plans import PlanStore
from serving.agent.reconciler import Reconciler
from serving.agent.settings import (
    AgentSettings,
    ClusterSettings,
    MachineSettings,
    kubernetes_of,
    traffic_backend_of,
)

log = logging.getLogger("slipway.agent")

_RECONCILE_SECONDS = 0.5  # a stored plan or a changed readiness is acted on at once
_PROBE_SECONDS = 0.25
_PAIR_SECONDS = 0.25
_LEASE_SECONDS = 1.0
_KEEP_SECONDS = 1.0


def run_agent(settings: AgentSettings) -> None:
    """Run an agent until it is told to stop.

    Servers and the data plane stay as they are when it ends, however it ends.

    Raises:
        ConflictError: If another agent works in the same home.
        ConfigError: If its port is taken, or a setting cannot be used.
        SlipwayError: If one of its threads ended by an unexpected error; start it again.
    """
    advice = "stop it, or choose another --home"
    with (
        sole_lock(settings.state_folder / "agent.lock", "serving agent", advice),
        _listening(settings) as listening,
        _servers(settings) as servers,
    ):
        opened = backend_kind(traffic_backend_of(settings)).open(settings, servers)
        plans = PlanStore(settings.root, opened.backend.capabilities)
        plans.copy_all()
        draining = Draining(
            settings.drain_seconds, settings.drain_seconds + settings.timeout_seconds
        )
        reconciler = Reconciler(plans, servers, opened, draining, settings.state_folder)
        wake = threading.Event()
        leases = TrialLeases(plans)
        access = Access(settings.token(), settings.tokens_file)
        app = control_api(plans, access, reconciler.observe, wake.set, leases)
        for path, questions in opened.questions.items():
            app.mount(path, questions)
        _serve(app, _Duties(reconciler, leases, opened.keep), wake, listening)


@contextlib.contextmanager
def _servers(settings: AgentSettings) -> Iterator[ServerHost]:
    """Yield what runs model servers."""
    if isinstance(settings, ClusterSettings):
        # only here: the Kubernetes client is large
        from serving.agent.hosts.deployed_servers import deployed_servers

        with deployed_servers(kubernetes_of(settings)) as servers:
            yield servers
        return
    assert isinstance(settings, MachineSettings)
    yield SupervisedServers(settings)


@dataclass(frozen=True)
class _Duties:
    """What the agent does again and again."""

    reconciler: Reconciler
    leases: TrialLeases
    keep_backend: Callable[[], object]


def _serve(app: FastAPI, duties: _Duties, wake: threading.Event, listening: socket.socket) -> None:
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    threads = Threads(on_failure=lambda: setattr(server, "should_exit", True))

    def probe() -> None:
        if duties.reconciler.probe():
            wake.set()

    def withdraw() -> None:
        if duties.leases.withdraw_silent():
            wake.set()

    threads.start(duties.reconciler.reconcile, _RECONCILE_SECONDS, wake)
    threads.start(probe, _PROBE_SECONDS, threading.Event())
    threads.start(withdraw, _LEASE_SECONDS, threading.Event())
    threads.start(duties.keep_backend, _KEEP_SECONDS, threading.Event())
    threads.start(duties.reconciler.pairs.update, _PAIR_SECONDS, threading.Event())
    log.info("agent answers on http://%s:%d", *listening.getsockname()[:2])
    server.run(sockets=[listening])
    threads.stop()
    log.info("agent ends; servers and the data plane continue")


class Threads:
    """Work that is done again and again, each kind in its own thread."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._is_stopping = False
        self._running: list[tuple[threading.Thread, threading.Event]] = []
        self._failures: list[Exception] = []

    def start(
        self, work: Callable[[], object], pause_seconds: float, wake: threading.Event
    ) -> None:
        """Do `work`, then wait until `wake` is set or the pause is over, and so on."""

        def loop() -> None:
            while not self._is_stopping:
                try:
                    work()
                except Exception as error:  # it ends the process, with its reason
                    log.exception("%s has failed", getattr(work, "__qualname__", work))
                    self._failures.append(error)
                    self._on_failure()
                    return
                wake.wait(pause_seconds)
                wake.clear()

        thread = threading.Thread(target=loop, daemon=True)
        self._running.append((thread, wake))
        thread.start()

    def stop(self) -> None:
        """Let every thread finish what it is at; raise SlipwayError if one had failed."""
        self._is_stopping = True
        for thread, wake in self._running:
            wake.set()
            thread.join()
        for failure in self._failures:
            raise SlipwayError(f"the agent cannot continue: {failure}") from failure


@contextlib.contextmanager
def _listening(settings: AgentSettings) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                [f"--port {settings.port}: cannot listen there: {error.strerror}; choose another"]
            ) from error
        yield listening
