"""MLflow: one parent run per pipeline run, one child per step, continued by retries.

Tracking never fails a step: if MLflow does not answer, the step says so in its log and continues;
its figures are in `result.json` all the same.
"""

import logging
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.runs import mlflow_models
from components.runs.mlflow_models import VERSION_TAG
from components.runs.run_overview import (
    RUNNING,
    airflow_link,
    tell_failure,
    tell_parent,
)
from contract.addresses import DATA_PLANE_URL, TRACKING_URI, served_at
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.records.record import Result
from contract.stores import store_of
from contract.tracked_run import OUTCOME_TAG

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.utils.async_logging.run_operations import RunOperations

_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"  # "Model training"
_SEND_SECONDS = 2.0  # one batch costs some 10 ms of CPU, however many metrics are in it
_METRICS_A_BATCH = 1000  # MLflow's own limit
_REMEMBERED_BATCHES = 1000  # of half an hour at least; MLflow has answered the earlier ones
# How MLflow names an image of a key at a step; it has no call that lists them.
_IMAGE = re.compile(r"(?P<key>.+)[+%]step[+%](?P<step>\d+)[+%]timestamp[+%].+\.png")

log = logging.getLogger("slipway")


class Tracker:
    """Logs one step's parameters, metrics and artifacts; without a client it does nothing."""

    def __init__(
        self, client: "MlflowClient | None" = None, run_id: str = "", parent: "Parent | None" = None
    ) -> None:
        self._client = client
        self._parent = parent
        self._result: Result | None = None
        self._held: list[tuple[Mapping[str, float], int]] = []  # until there is a result
        self._waiting: list[Metric] = []  # not yet handed to MLflow's thread
        self._sent: deque[RunOperations] = deque(maxlen=_REMEMBERED_BATCHES)
        self._sent_at = -math.inf
        self.run_id = run_id

    @property
    def is_on(self) -> bool:
        """Whether anything is logged at all."""
        return self._client is not None

    def log_metrics(
        self, values: Mapping[str, float], step: int = 0, logged_at: datetime | None = None
    ) -> None:
        """Queue metrics; they are sent after the step's result, so that a kill doubles none.

        Where the time is given (`logged_at`), a background thread sends them, in batches two
        seconds apart. A process that is killed loses what waits; `logged_steps` tells its retry
        which came in. Logging the same again changes nothing: MLflow's database keeps one of equal
        name, step, time and value.
        """
        if self._client is None or not values:
            return
        if logged_at is None:
            self._held.append((values, step))
            return
        from mlflow.entities import Metric

        now = round(logged_at.timestamp() * 1000)
        self._waiting += [Metric(_clean(name), float(v), now, step) for name, v in values.items()]
        if time.monotonic() - self._sent_at >= _SEND_SECONDS:
            self._send_metrics()

    def logged_steps(self, name: str) -> frozenset[int]:
        """Return the steps at which a metric was logged, by this attempt or an earlier one."""
        steps: set[int] = set()

        def read(client: "MlflowClient") -> None:
            steps.update(m.step for m in client.get_metric_history(self.run_id, _clean(name)))

        self._try(read)
        return frozenset(steps)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, also to the parent run; a retry may log the same ones again."""
        from mlflow.entities import Param

        entries = [Param(_clean(name), str(value)[:6000]) for name, value in params.items()]
        for run_id in (self.run_id, *([self._parent.run_id] if self._parent else [])):
            self._try(partial(_log_params, run_id=run_id, params=entries))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or all files of a directory."""
        if path.is_dir():
            self._try(lambda c: c.log_artifacts(self.run_id, str(path), folder))
        else:
            self._try(lambda c: c.log_artifact(self.run_id, str(path), folder))

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Upload a matplotlib figure under a file name such as `drift.png`."""
        self._try(lambda c: c.log_figure(self.run_id, figure, name))

    def log_image(self, figure: "Figure", key: str, step: int) -> None:
        """Upload a matplotlib figure as the image that `key` has at a step."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba()).copy()
        self._try(
            lambda c: c.log_image(self.run_id, pixels, key=_clean(key), step=step, synchronous=True)
        )

    def image_steps(self, key: str) -> frozenset[int]:
        """Return the steps at which an image was logged under a key."""
        steps: set[int] = set()

        def read(client: "MlflowClient") -> None:
            for entry in client.list_artifacts(self.run_id, "images"):
                match = _IMAGE.fullmatch(Path(entry.path).name)
                if match and match["key"] == _clean(key).replace("/", "~"):
                    steps.add(int(match["step"]))

        self._try(read)
        return frozenset(steps)

    def log_table(self, columns: Mapping[str, list[Any]], name: str) -> None:
        """Upload a table (equal-length columns) under a file name such as `ledger.json`."""
        self._try(lambda c: c.log_table(self.run_id, dict(columns), name))

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the step's run."""
        self._try(lambda c: c.set_tag(self.run_id, key, value))

    def log_result(self, result: Result) -> None:
        """Log what every step has: its duration, figures, reasons and artifact digests."""
        self._result = result
        self.log_metrics({**result.metrics, "seconds": result.seconds})
        self._send_held(result.started_at)
        if result.reasons:
            self.set_tag("slipway.reasons", "\n".join(result.reasons))
        for name, artifact in result.artifacts.items():
            self.set_tag(f"slipway.artifact.{name}", artifact.digest)

    def register_model(self, name: str, package: Path, version: int, alias: str) -> None:
        """Register a package as a version of the registered model and point an alias at it.

        The registry numbers versions itself; ours is in the tag `slipway.version`. What is stored
        there is the package as an MLflow model: see `mlflow_models`.
        """

        def register(client: "MlflowClient") -> None:
            if _point_alias(client, name, version, alias):
                return
            where = served_at(os.environ.get(DATA_PLANE_URL, ""), name, version)
            entry = mlflow_models.register_package(client, self.run_id, package, where)
            client.set_registered_model_alias(name, alias, entry.version)

        self._try(register)

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias away from whichever version has it."""
        self._try(lambda c: c.delete_registered_model_alias(name, alias))

    def finish(self, status: str, reason: str = "") -> None:
        """Send what is queued, end the run as FINISHED, FAILED or KILLED, and tell the parent."""

        self._send_held(datetime.now(UTC))  # of a step that failed: what it had found
        self._send_metrics()
        self._try(self._await_sent)
        self._try(lambda c: c.set_terminated(self.run_id, status))
        if self._parent is not None and (self._result is not None or status != "FINISHED"):
            self._try(partial(self._parent.tell, result=self._result, reason=reason))

    def _send_held(self, logged_at: datetime) -> None:
        held, self._held = self._held, []
        for values, step in held:
            self.log_metrics(values, step, logged_at)

    def _send_metrics(self) -> None:
        self._sent_at = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _METRICS_A_BATCH):
            self._send_batch(waiting[start : start + _METRICS_A_BATCH])

    def _send_batch(self, metrics: "list[Metric]") -> None:
        def send(client: "MlflowClient") -> None:
            sent = client.log_batch(self.run_id, metrics=metrics, synchronous=False)
            if sent is not None:
                self._sent.append(sent)

        self._try(send)

    def _await_sent(self, _client: "MlflowClient") -> None:
        """Wait until MLflow has answered all batches; raise the last error, if there was one."""
        failed: Exception | None = None
        for batch in self._sent:
            try:
                batch.wait()
            except Exception as error:  # noqa: BLE001 (the others are waited for all the same)
                failed = error
        if failed is not None:
            raise failed

    def _try(self, call: "Callable[[MlflowClient], Any]") -> None:
        if self._client is None:
            return
        try:
            call(self._client)
        except Exception as error:  # noqa: BLE001 (whatever MLflow raises, the step continues)
            log.warning("MLflow: %s: %s", type(error).__name__, str(error).splitlines()[:1])


@dataclass(frozen=True)
class Parent:
    """The run above a step's: what people compare pipeline runs by."""

    run_id: str
    run: RunLayout
    step: str

    def tell(self, client: "MlflowClient", result: Result | None, reason: str) -> None:
        """Add a step's result to the run; a step without one has failed."""
        if result is not None:
            tell_parent(client, self.run_id, self.run, result)
        else:
            tell_failure(client, self.run_id, self.step, reason)


def point_champion(tracking_uri: str, name: str, version: int) -> bool:
    """Point the alias `champion` at a registered version; tell whether there was one.

    For what happens outside of a run: a person promotes or rolls back. A version that has become
    champion is no longer `challenger`.
    """
    from mlflow import MlflowClient

    _limit_patience()
    client = MlflowClient(tracking_uri)
    if not _point_alias(client, name, version, "champion"):
        return False
    aliases = client.get_registered_model(name).aliases
    if aliases.get("challenger") == aliases["champion"]:
        client.delete_registered_model_alias(name, "challenger")
    return True


@contextmanager
def open_tracker(tracking_uri: str, run: RunLayout, step: str) -> Iterator[Tracker]:
    """Yield the step's tracker; its run ends FINISHED, or FAILED if the block raises."""
    tracker = Tracker()
    if tracking_uri:
        tracker = _connect(tracking_uri, run, step)
    else:
        log.info("%s is not set: this run is not tracked", TRACKING_URI)
    try:
        yield tracker
    except BaseException as error:
        tracker.finish("FAILED", str(error) or type(error).__name__)
        raise
    tracker.finish("FINISHED")


def tell_untracked(tracking_uri: str, run: RunLayout, result: Result) -> None:
    """Tell MLflow of a result whose process was killed before it could; once it has answered."""
    if not tracking_uri:
        return
    notes = store_of(run.tracking_notes)
    try:
        if notes.read(_told(result)) == str(result.attempt) or notes.read(result.step) is None:
            return
    except (OSError, SlipwayError) as error:
        log.warning("MLflow is not told of %s again: %s", result.step, error)
        return
    with open_tracker(tracking_uri, run, result.step) as tracker:
        tracker.log_result(result)
    if tracker.is_on:
        note_told(run, result)


def note_told(run: RunLayout, result: Result) -> None:
    """Note that MLflow knows the result of a step's attempt."""
    with suppress(OSError, SlipwayError):  # without it, it is sent again, which changes nothing
        store_of(run.tracking_notes).write(_told(result), str(result.attempt))


def _told(result: Result) -> str:
    return f"{result.step}.told"


def _connect(tracking_uri: str, run: RunLayout, step: str) -> Tracker:
    _limit_patience()
    try:
        import mlflow
        from mlflow import MlflowClient

        mlflow.set_tracking_uri(tracking_uri)  # noqa: TID251 (set_experiment needs it)
        client = MlflowClient(tracking_uri)
        experiment = mlflow.set_experiment(run.pipeline).experiment_id
        client.set_experiment_tag(experiment, _KIND_TAG, _KIND)
        parent = _continued_run(client, experiment, run, "run", _parent_tags(run))
        client.set_tag(parent, OUTCOME_TAG, RUNNING)
        child = _continued_run(client, experiment, run, step, {"mlflow.parentRunId": parent})
        return Tracker(client, child, Parent(parent, run, step))
    except Exception as error:  # noqa: BLE001 (see the module's first lines)
        log.warning(
            "MLflow at %s did not answer, this step is not tracked: %s", tracking_uri, error
        )
        return Tracker()


def _continued_run(
    client: "MlflowClient", experiment: str, run: RunLayout, step: str, tags: Mapping[str, str]
) -> str:
    """Return the MLflow run of a step, created by the first process that asks."""
    notes = store_of(run.tracking_notes)
    noted = notes.read(step)
    if noted and _continues(client, noted):
        return noted
    name = run.run_id if step == "run" else step
    tags = {"slipway.run_id": run.run_id, "slipway.step": step, **tags}
    run_id = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
    if noted:
        notes.write(step, run_id)
    elif not notes.create(step, run_id):
        client.delete_run(run_id)
        return notes.read(step) or ""
    return run_id


def _continues(client: "MlflowClient", run_id: str) -> bool:
    """Let an MLflow run go on; tell whether this MLflow knows it: another machine's may not."""
    from mlflow import MlflowException

    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _log_params(client: "MlflowClient", run_id: str, params: "list[Param]") -> None:
    client.log_batch(run_id, params=params)


def _parent_tags(run: RunLayout) -> dict[str, str]:
    link = airflow_link(run)
    return {"slipway.airflow_run": link} if link else {}


def _point_alias(client: "MlflowClient", name: str, version: int, alias: str) -> bool:
    """Point an alias at the entry of one of our versions; make the registered model if need be."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException:
        log.debug("registered model %s already exists", name)
    entries = client.search_model_versions(f"name = '{name}'")
    ours = [entry for entry in entries if entry.tags.get(VERSION_TAG) == str(version)]
    if ours:
        client.set_registered_model_alias(name, alias, ours[0].version)
    return bool(ours)


def _limit_patience() -> None:
    """Let a step wait for MLflow for seconds, not for the minutes that are its defaults."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "true")


def _clean(name: str) -> str:
    """Return a name that MLflow takes: letters, digits and `_-./ ` only."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
