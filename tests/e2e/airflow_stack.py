"""A real Airflow (API server, scheduler, dag-processor, triggerer) in a folder of its own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import warm
import yaml

from contract.free_ports import free_port
from contract.layout import RunLayout
from contract.pipelines import find_pipeline
from contract.records.stack import Stack
from launching.processes.warm_start import socket_of
from operators.airflow_settings import (
    AirflowHome,
    airflow_environment,
    airflow_processes,
    migrate_command,
)

ENDED = ("success", "failed")
_POLL_SECONDS = 0.4  # a look costs Airflow CPU, which its tasks want


@dataclass
class AirflowStack:
    """One Airflow of its own, and the pipelines that it reads."""

    folder: Path
    home: AirflowHome
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    _client: httpx.Client | None = None

    @property
    def pipelines(self) -> Path:
        return self.folder / "pipelines"

    @property
    def environment(self) -> dict[str, str]:
        own = {"SLIPWAY_PIPELINES": str(self.pipelines), "SLIPWAY_HOME": str(self.state)}
        ours = warm.without_libraries_own(os.environ)
        return {**ours, **airflow_environment(self.home), **own, **self.settings}

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "home"

    def layout(self, pipeline: str, run_id: str) -> RunLayout:
        return RunLayout(self.state / "artifacts", pipeline, run_id)

    # --- processes ---

    def start(self, name: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            airflow_processes()[name],
            cwd=self.folder,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.groups.append(self.processes[name].pid)

    def component(self, run: RunLayout, step: str) -> psutil.Process:
        """Return the running process of a step: what the guard of its group has started."""
        guard = psutil.Process(int(run.process_lock(step).read_text()))
        return guard.children()[0]

    def worker(self, run: RunLayout, step: str) -> psutil.Process:
        """Return the executor's worker that runs a task, by the titles that Airflow gives.

        A fork of the warm parent is no descendant of its task.
        """
        title = f"airflow worker -- {self.task(run.pipeline, run.run_id, step)['id']}"
        (task,) = (p for p in psutil.process_iter() if has_title(p, title))
        (worker,) = (p for p in task.parents() if has_title(p, "airflow worker -- LocalExecutor"))
        return worker

    @contextlib.contextmanager
    def without_warm_parent(self) -> Iterator[None]:
        """Let components that start meanwhile find no warm parent."""
        lent, aside = socket_of(self.state), self.folder / "warm-parent"
        lent.rename(aside)
        try:
            yield
        finally:
            aside.rename(lent)

    def kill(self, name: str) -> None:
        """Kill one process as a crash does: at once, and it alone."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        """End everything, also the executor's workers, which outlive a killed scheduler."""
        if self._client is not None:
            self._client.close()
            self._client = None
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for group in self.groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signum)
            until = time.monotonic() + 15
            while self._is_alive() and time.monotonic() < until:
                time.sleep(0.2)
        self.groups.clear()

    def _is_alive(self) -> bool:
        for process in self.processes.values():
            process.poll()
        return any(_has_group(group) for group in self.groups)

    # --- REST ---

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        self._client = self._client or self._logged_in()
        return self._client.request(method, f"/api/v2{path}", **content)

    def _logged_in(self) -> httpx.Client:
        """Return a client to keep: each new one reads all certificates, for 20 ms of CPU."""
        client = httpx.Client(base_url=self.home.url, timeout=120, trust_env=False)
        login = {"username": self.home.user, "password": self.home.password()}
        answer = client.post("/auth/token", json=login).raise_for_status()
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        answer = self.call("GET", path, params=parameters)
        answer.raise_for_status()
        return dict(answer.json())

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> httpx.Response:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        return self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"/dags/{dag_id}/dagRuns")["dag_runs"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task of a run."""
        return {t["task_id"]: t["state"] for t in self.tasks(dag_id, run_id)}

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        return next(t for t in self.tasks(dag_id, run_id) if t["task_id"] == task_id)

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        lines = self.get(path, full_content=True)["content"]
        return "\n".join(str(x.get("event", x) if isinstance(x, dict) else x) for x in lines)

    def asset_id(self, uri: str) -> int:
        assets = self.get("/assets", uri_pattern=uri)["assets"]
        return next(int(asset["id"]) for asset in assets if asset["uri"] == uri)

    def slipway(self, *words: str) -> dict[str, Any]:
        """Run a command as somebody with this Airflow up would; return its JSON."""
        Stack(
            root=str(self.state / "artifacts"),
            airflow_url=self.home.url,
            airflow_user=self.home.user,
            airflow_password_file=str(self.home.password_file),
        ).write(self.state / "stack.json")
        command = [sys.executable, "-m", "cli.main", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, check=True)
        return dict(json.loads(done.stdout))

    # --- pipelines ---

    def add(self, name: str, **changes: dict[str, Any]) -> None:
        """Make a small pipeline on the digits; await its DAG.

        Nobody serves here, so its model is refused: no model answers all test rows right.
        """
        folder = self.pipelines / name
        shutil.copytree(find_pipeline("digits"), folder)
        config = yaml.safe_load((folder / "pipeline.yaml").read_text())
        config |= {"name": name, "train": {**config["train"], "steps": 60}}
        config["bless"] = {"metric": "accuracy", "thresholds": {"accuracy": 1.0}}
        for section, content in changes.items():
            config[section] = {**config.get(section, {}), **content}
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
        (other, *_) = self.get("/dags", limit=1)["dags"]  # all of them are made by one file
        self.call("PUT", f"/parseDagFile/{other['file_token']}")
        self.wait(lambda: self.call("GET", f"/dags/{name}").is_success, 240)

    def pause(self, dag_id: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": True}).raise_for_status()

    # --- waiting ---

    def await_end(self, dag_id: str, run_id: str, seconds: float = 600) -> str:
        """Wait until a run has ended and return its state."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        self.wait(lambda: self.get(path)["state"] in ENDED, seconds)
        return str(self.get(path)["state"])

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {seconds:g} s")
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def running_airflow(
    folder: Path, warm_parent: Path | None = None, **settings: str
) -> Iterator[AirflowStack]:
    """Start Airflow in an empty folder, yield it when it is healthy, and end all of it.

    Args:
        folder: Where everything goes that it writes.
        warm_parent: The socket of a warm parent of components; without one they are fresh.
        settings: More environment variables.
    """
    stack = AirflowStack(folder, AirflowHome(folder / "airflow", free_port()), dict(settings))
    if warm_parent is not None:
        warm.lend(warm_parent, stack.state)
    stack.pipelines.mkdir()
    stack.home.path.mkdir()
    stack.home.password()
    subprocess.run(migrate_command(), env=stack.environment, check=True, capture_output=True)
    try:
        with _webhook(stack.heard) as url:
            stack.settings |= {"AIRFLOW_CONN_SLIPWAY_HOOK": url}
            for name in airflow_processes():
                stack.start(name)
            stack.wait(lambda: _is_healthy(stack.home.url), 600)
            yield stack
    finally:
        stack.stop()


@contextlib.contextmanager
def _webhook(heard: list[Any]) -> Iterator[str]:
    """Keep the JSON that is posted to the Airflow connection whose URI is yielded."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/http"
    server.shutdown()


def _is_healthy(url: str) -> bool:
    try:
        httpx.get(f"{url}/execution/health", timeout=5, trust_env=False).raise_for_status()
        health = httpx.get(f"{url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return False
    return all(
        health[part]["status"] == "healthy"
        for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
    )


def has_title(process: psutil.Process, title: str) -> bool:
    """Tell whether the title of a process, which it sets itself, begins so."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline()).startswith(title)
    return False


def _has_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
