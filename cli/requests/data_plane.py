"""The REST data plane as callers on this machine use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from contract.addresses import VERSION_HEADER, served_at
from contract.clients.http import error_of, no_answer, open_client, reason_of
from contract.model_io import output_names
from contract.records.stack import Stack
from contract.schema.data import HeadConfig
from contract.tokens import bearer, read_token


@dataclass(frozen=True)
class Answer:
    """Predictions of some rows, and the version that made them."""

    version: int
    predictions: Sequence[Any]


def predict_url(stack: Stack, pipeline: str, version: int | None = None) -> str:
    """Return where predictions are asked for."""
    return f"{served_at(stack.data_plane_url, pipeline, version)}:predict"


def caller_headers(stack: Stack) -> dict[str, str]:
    """Return the headers that the data plane wants of a caller."""
    if not stack.data_plane_token_file:
        return {}
    return bearer(read_token(Path(stack.data_plane_token_file)))


def certificate(stack: Stack) -> Path | None:
    """Return what callers trust, where the data plane speaks TLS."""
    return Path(stack.data_plane_certificate_file) if stack.data_plane_certificate_file else None


def predict(stack: Stack, pipeline: str, rows: Sequence[Any], version: int | None = None) -> Answer:
    """Ask for predictions.

    Raises:
        UserError: If the server refuses the rows; with its message.
        NotFoundError: If nothing of this name is in service.
        ServiceUnavailableError: If there is no answer.
    """
    url = predict_url(stack, pipeline, version)
    try:
        with open_client(url, trusted=certificate(stack)) as http:
            answer = http.post(url, json={"instances": rows}, headers=caller_headers(stack))
    except httpx.TransportError as error:
        raise no_answer(url, error, "start the services with 'slipway up'") from error
    if answer.is_success:
        version_header = answer.headers.get(VERSION_HEADER, "0")
        return Answer(int(version_header), answer.json()["predictions"])
    said = reason_of(answer)
    if answer.status_code == httpx.codes.NOT_FOUND:
        message = f"{url}: {said}; 'slipway status {pipeline}' shows what is in service"
    elif answer.is_client_error:
        message = f"{pipeline}: the rows were refused: {said}"
    else:
        message = f"{url}: status {answer.status_code}: {said}"
    raise error_of(answer, message)


def named(prediction: Any, heads: Mapping[str, HeadConfig]) -> Any:
    """Return one row's prediction by head: `class` and `scores` by class, or `value`.

    Of an imported model nobody has said what its outputs mean: its predictions stay as they are.

    `prediction` is as TensorFlow Serving's REST API has it: the bare output of a model with one
    head, an object of outputs by name for one with several.
    """
    if not heads:
        return prediction
    return {
        name: _named_head(prediction if len(heads) == 1 else prediction[output], heads[name])
        for name, output in output_names(heads).items()
    }


def _named_head(output: Any, head: HeadConfig) -> dict[str, Any]:
    if head.task == "regression":
        return {"value": output}
    scores = dict(zip(head.classes, output, strict=True))
    return {"class": max(scores, key=lambda name: scores[name]), "scores": scores}
