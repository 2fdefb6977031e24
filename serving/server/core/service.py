"""What every protocol asks of one version of one model; it knows neither HTTP nor gRPC.

A front such as `rest/` decodes a request to an `Asked`, submits it, and encodes what comes back:
outputs, or a `ServingError`, to which each front gives its own status.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from contract.model_io import DEFAULT_SIGNATURE, output_names
from contract.records.package import PackageManifest
from contract.schema.data import HeadConfig
from serving.server.core.asked import Asked, Caller
from serving.server.core.batching import Batcher, Job, Outcome
from serving.server.core.faults import FaultInjector
from serving.server.core.metrics import ServerMetrics
from serving.server.core.prediction_log import PredictionLog
from serving.server.engines.engine import Outputs, RefusedInputError, Signature
from serving.server.requests.arrays import ArrayReader
from serving.server.requests.errors import (
    SHOWN_CHARACTERS,
    DeadlineError,
    InvalidInputError,
    LoadingError,
    ModelFailedError,
    ModelNotFoundError,
    ServingError,
)
from serving.server.requests.instances import InputReader

log = logging.getLogger("slipway")

# Heads of which tasks each method answers for.
_TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classify": ("binary_classification", "multiclass_classification"),
        "regress": ("regression",),
    }
)

Found = Outputs | ServingError
Done = Callable[[Found], None]


@dataclass(frozen=True)
class Loaded:
    """What answers predictions once the model is there."""

    batcher: Batcher
    readers: Mapping[str, InputReader]
    array_readers: Mapping[str, ArrayReader]
    signatures: Mapping[str, Signature]
    prediction_log: PredictionLog | None = None


@dataclass(frozen=True)
class Head:
    """A head that `:classify` or `:regress` asks for. `output` is its name in the signatures."""

    name: str
    config: HeadConfig
    output: str


class PredictService:
    """One version of one model. Predictions raise LoadingError until `loaded` is set.

    Belongs to one event loop: all methods must be called on it.
    """

    def __init__(
        self, manifest: PackageManifest, metrics: ServerMetrics, labels: Sequence[str]
    ) -> None:
        """Serve `manifest`, which is found by its name and version, and by each of the labels."""
        self.loaded: Loaded | None = None
        self.is_draining = False
        self.manifest = manifest
        self.metrics = metrics
        self.labels = tuple(labels)
        self._outputs = output_names(manifest.heads)
        self._faults = FaultInjector(manifest.serve.fault_ratio, metrics.observe_fault)

    @property
    def state(self) -> str:
        """The version's state in TensorFlow Serving's words."""
        return "UNLOADING" if self.is_draining else "AVAILABLE" if self.loaded else "LOADING"

    def ready(self) -> Loaded:
        """Return the loaded model.

        Raises:
            LoadingError: If it is not there yet.
        """
        if self.loaded is None:
            raise LoadingError("the model is still loading; try again")
        return self.loaded

    def begin(self) -> Loaded:
        """Return the loaded model for a prediction.

        Raises:
            LoadingError: If it is not there yet.
            InjectedFaultError: If it is this prediction's turn to fail on purpose.
        """
        loaded = self.ready()
        self._faults.maybe_fail()
        return loaded

    def head_of(self, method: str, wanted: Any) -> Head:
        """Return the head that `classify` or `regress` asks for by `signature_name`.

        Raises:
            InvalidInputError: If it has another task or does not exist, or several would do.
        """
        tasks = _TASKS[method]
        heads = {n: h for n, h in self.manifest.heads.items() if h.task in tasks}
        if not heads:
            raise InvalidInputError(f":{method}: '{self.manifest.pipeline}' has no such head")
        if type(wanted) is str and wanted in heads:
            return Head(wanted, heads[wanted], self._outputs[wanted])
        names = ", ".join(f"'{name}'" for name in heads)
        if wanted not in (None, "", DEFAULT_SIGNATURE):
            raise InvalidInputError(f"signature_name: found {wanted!r}, expected a head: {names}")
        if len(heads) > 1:
            raise InvalidInputError(f"signature_name: several heads, name one of {names}")
        name, config = next(iter(heads.items()))
        return Head(name, config, self._outputs[name])

    def find(self, name: str, version: int | None = None, label: str = "") -> None:
        """Check that a request means this server, for protocols that name the model in the message.

        Raises:
            ModelNotFoundError: If this server does not have the model, version or label.
        """
        own = self.manifest
        if name == own.pipeline and version in (None, own.version) and label in ("", *self.labels):
            return
        asked = f"Latest({name[:SHOWN_CHARACTERS]})"
        if version is not None:
            asked = f"Specific({name[:SHOWN_CHARACTERS]}, {version})"
        elif label:
            asked = f"Label({name[:SHOWN_CHARACTERS]}, {label[:SHOWN_CHARACTERS]})"
        has = ", ".join(f"'{one}'" for one in self.labels) or "none"
        raise ModelNotFoundError(
            f"Servable not found for request: {asked}; this server has version {own.version} of "
            f"'{own.pipeline}' with the labels {has}"
        )

    def submit(
        self, request_id: bytes, asked: Asked, done: Done, expires_at: float = math.inf
    ) -> None:
        """Queue rows for the model; `done` gets outputs or a ServingError, on the event loop.

        Args:
            request_id: For the log.
            asked: The rows.
            done: Is called once.
            expires_at: When the caller stops waiting, of `time.monotonic()`: `done` gets a
                DeadlineError if the model has not been called by then.

        Raises:
            DeadlineError: If that time has passed.
            LoadingError: If the model is not there yet.
            OverloadedError: If too many rows wait.
            TooLargeError: If there are more rows than can ever be queued.
        """
        if expires_at < math.inf and expires_at <= time.monotonic():
            raise DeadlineError("the deadline has passed")
        rows = len(next(iter(asked.columns.values())))
        told = partial(self._told, request_id, asked, done)
        job = Job(asked.signature, asked.columns, rows, told, expires_at, asked.spans)
        self.ready().batcher.submit(job)

    def failed(self, request_id: bytes, failure: Exception) -> ModelFailedError:
        """Log how the model failed a request; return the error for its caller."""
        log.error("request %s: the model failed: %s", request_id, failure)
        return ModelFailedError(f"the model failed: {failure}")

    def note_answer(self, caller: Caller, asked: Asked, outputs: Outputs) -> None:
        """Log an answer that was sent, if it is among the logged share."""
        if self.loaded is not None and self.loaded.prediction_log is not None:
            self.loaded.prediction_log.note_answer(caller, asked.signature, outputs, asked.columns)

    def note_refusal(self, caller: Caller, status: int) -> None:
        """Log that a prediction was refused for the caller's fault; `status` is HTTP's (4xx)."""
        if self.loaded is not None and self.loaded.prediction_log is not None:
            self.loaded.prediction_log.note_refusal(caller, status)

    def _told(self, request_id: bytes, asked: Asked, done: Done, outcome: Outcome) -> None:
        if isinstance(outcome, RefusedInputError):
            return done(InvalidInputError(asked.refusal(outcome)))
        if isinstance(outcome, Exception) and not isinstance(outcome, ServingError):
            return done(self.failed(request_id, outcome))
        return done(outcome)
