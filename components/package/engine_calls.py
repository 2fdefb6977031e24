"""Calls of one running server through every signature and every method that it has."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import httpx

from components.data.tf_example import example_class
from components.package.caller_rows import CallerRow, Row, leaves
from components.package.server_process import RunningServer
from contract.clients.http import Client, open_client
from contract.errors import SlipwayError
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE
from contract.records.package import InputSpec, PackageManifest

_TIMEOUT_SECONDS = 60.0
_NOT_FINITE = "the model has no finite"


class EngineError(SlipwayError):
    """A server failed (5xx), or ended, where it had to answer or to refuse."""


@dataclass(frozen=True)
class Answer:
    """What one row got: an entry of `predictions`, or the words of a refusal (400)."""

    found: Any = None
    words: str = ""

    @property
    def is_answered(self) -> bool:
        return not self.words

    @property
    def is_not_finite(self) -> bool:
        """Whether the model had an answer, but none that is a number."""
        return _NOT_FINITE in self.words


@dataclass(frozen=True)
class EngineCalls:
    """One server and how to call it.

    Attributes:
        base: The model's address.
        manifest: Of the package that it serves.
        attempts: How often a request that the server fails is tried.
        http: Keeps the connection.
        signatures: The server's, of those that callers can name.
    """

    base: str
    manifest: PackageManifest
    attempts: int
    http: Client
    signatures: tuple[str, ...]

    @classmethod
    @contextmanager
    def of(
        cls, server: RunningServer, manifest: PackageManifest, attempts: int
    ) -> Iterator["EngineCalls"]:
        base = server.predict_url.removesuffix(":predict")
        with open_client(base, _TIMEOUT_SECONDS) as http:
            metadata = http.get(f"{base}/metadata").json()["metadata"]
            has = metadata["signature_def"]["signature_def"]
            signatures = tuple(
                name for name in (DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE) if name in has
            )
            yield cls(base, manifest, attempts, http, signatures)

    def alone(self, signature: str, row: CallerRow) -> Answer:
        """Send one row in a separate request.

        Raises:
            EngineError: If the server neither answers nor refuses it.
        """
        instance: Any = row.row
        if signature == EXAMPLES_SIGNATURE:
            instance = as_example(row.row, self.manifest.inputs)
        body = {"signature_name": signature, "instances": [instance]}
        status, answer = self._send(":predict", body, row.words)
        if status == httpx.codes.OK:
            return Answer(answer["predictions"][0])
        return Answer(words=answer["error"])

    def together(self, rows: Sequence[CallerRow]) -> dict[str, Any]:
        """Send rows in full batches through every method; return the answers by method.

        Long values are left out: a batch of them may be larger than a request may be.

        Raises:
            EngineError: If one is refused, as no row of it is alone, or fails.
        """
        rows = [row for row in rows if not row.is_long]
        if not rows:
            return {}
        size = self.manifest.serve.max_batch_size
        count = -(-len(rows) // size) * size
        sent = [row.row for row in islice(cycle(rows), count)]
        found: dict[str, Any] = {}
        for start in range(0, count, size):
            for form, (method, key, body) in self._forms(sent[start : start + size]).items():
                found.setdefault(form, []).extend(self._whole(form, method, key, body))
        return found

    def _forms(self, rows: list[Row]) -> dict[str, tuple[str, str, dict[str, Any]]]:
        """Return by name how the same rows are sent: method, key of the answers, and body."""
        inputs = self.manifest.inputs
        columns = {name: [row.get(name) for row in rows] for name in inputs}
        forms: dict[str, tuple[str, str, dict[str, Any]]] = {
            "instances": (":predict", "predictions", {"instances": rows}),
            "inputs": (":predict", "outputs", {"inputs": columns}),
        }
        if EXAMPLES_SIGNATURE in self.signatures:
            examples = [as_example(row, inputs) for row in rows]
            body = {"signature_name": EXAMPLES_SIGNATURE, "instances": examples}
            forms[EXAMPLES_SIGNATURE] = (":predict", "predictions", body)
        for head, config in self.manifest.heads.items():
            method = ":regress" if config.task == "regression" else ":classify"
            body = {"signature_name": head, "examples": rows}
            forms[f"{method} {head}"] = (method, "results", body)
        return forms

    def _whole(self, form: str, method: str, key: str, body: Mapping[str, Any]) -> list[Any]:
        status, answer = self._send(method, body, f"a full batch ({form})")
        if status != httpx.codes.OK:
            raise EngineError(
                f"a full batch ({form}) of rows that are answered alone: {answer['error']}"
            )
        found = answer[key]
        # Columns of several outputs come by name.
        return [found] if isinstance(found, dict) else list(found)

    def _send(self, method: str, body: Mapping[str, Any], what: str) -> tuple[int, Any]:
        try:
            for _ in range(self.attempts):
                answer = self.http.post(f"{self.base}{method}", json=body)
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return answer.status_code, answer.json()
        except httpx.TransportError as error:
            raise EngineError(f"{what}: its server does not answer: {error}") from error
        raise EngineError(f"{what}: status {answer.status_code}: {answer.text[:300]}")


def as_example(row: Row, inputs: Mapping[str, InputSpec]) -> dict[str, str]:
    """Return a row as a serialized tf.Example in base64; what the row lacks is absent."""
    example: Any = example_class()()
    for name, value in row.items():
        feature = example.features.feature[name]
        values = list(leaves(value))
        match inputs[name].dtype:
            case "float32":
                feature.float_list.value.extend(values)
            case "int64":
                feature.int64_list.value.extend(values)
            case "string":
                feature.bytes_list.value.extend(map(_bytes, values))
    return {"b64": base64.b64encode(example.SerializeToString()).decode()}


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
