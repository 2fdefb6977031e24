"""Rows that somebody sends to an imported model: which signature gets them, and its answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from components.package.server_process import HOST, RunningServer
from contract.clients.http import Client, open_client, said
from contract.errors import DataError, did_you_mean
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.package import SignatureSpec

_TIMEOUT_SECONDS = 60.0
_SHOWN = 300


@dataclass(frozen=True)
class Rows:
    """Rows for one signature, as its method takes them over REST."""

    signature: str
    method: str
    rows: Sequence[Any]

    @property
    def key(self) -> str:
        """Under which a body has them."""
        return "instances" if self.method == "predict" else "examples"

    @property
    def more(self) -> dict[str, str]:
        """What else a body has."""
        return {"signature_name": self.signature} if self.signature else {}

    def url(self, server: RunningServer) -> str:
        """Return where they are sent to."""
        return f"http://{HOST}:{server.port}/v1/models/{server.pipeline}:{self.method}"


def rows_for(
    signatures: Mapping[str, SignatureSpec], rows: Sequence[Any], wanted: str, where: str
) -> Rows:
    """Return rows for the wanted signature; without one it is the default one, or the only one.

    Raises:
        DataError: If there is no such signature, or several would do.
    """
    names = ", ".join(f"'{name}'" for name in signatures)
    if wanted and wanted not in signatures:
        raise DataError(
            f"--signature {wanted}: not found in {where}{did_you_mean(wanted, signatures)}; it has "
            f"{names}"
        )
    name = wanted or DEFAULT_SIGNATURE
    if name not in signatures:
        if len(signatures) > 1:
            raise DataError(
                f"{where}: has no signature '{DEFAULT_SIGNATURE}' for the rows; name one of "
                f"{names} with --signature"
            )
        name = next(iter(signatures))
    return Rows(name, signatures[name].method, rows)


def check_answers(server: RunningServer, given: Rows, tolerance: float) -> list[Any]:
    """Ask for each row alone, and for all together; return the answers to each alone.

    Raises:
        DataError: If a row is not answered, or is answered otherwise beside other rows.
    """
    with open_client(f"http://{HOST}:{server.port}", _TIMEOUT_SECONDS) as http:
        alone = [_asked(http, server, given, [row], f"row {n}")[0]
                 for n, row in enumerate(given.rows, 1)]  # fmt: skip
        if len(given.rows) == 1:
            return alone
        together = _asked(http, server, given, given.rows, "all rows together")
    for number, (one, other) in enumerate(zip(alone, together, strict=True), 1):
        if not is_near(one, other, tolerance):
            raise DataError(
                f"row {number}: the model answers {_words(one)} to it alone and {_words(other)} "
                "beside the other rows; an answer must depend on its own row only"
            )
    return alone


def check_skew(answers: Sequence[Any], reference: Sequence[Any], tolerance: float) -> None:
    """Compare the server's answers with those that TensorFlow gives outside the server.

    Raises:
        DataError: With the first row that differs by more.
    """
    for number, (found, wanted) in enumerate(zip(answers, reference, strict=True), 1):
        if not is_near(found, wanted, tolerance):
            raise DataError(
                f"row {number}: the server answers {found!r:.200}, TensorFlow outside the "
                f"server answers {wanted!r:.200}: expected the same within {tolerance:g} "
                "(package.skew_tolerance)"
            )


def is_near(found: Any, wanted: Any, tolerance: float) -> bool:
    """Tell whether two answers in JSON are the same: numbers within a tolerance, relative above 1.

    Two integers, and what is not finite, are the same only if they are equal; NaN is as NaN.
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return found.keys() == wanted.keys() and all(
            is_near(found[name], value, tolerance) for name, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(
            is_near(*pair, tolerance) for pair in zip(found, wanted, strict=True)
        )
    if _is_number(found) and _is_number(wanted):
        if found == wanted or (math.isnan(found) and math.isnan(wanted)):
            return True
        if isinstance(found, int) and isinstance(wanted, int):
            return False  # an id of 64 bits: the next one is another
        if not (math.isfinite(found) and math.isfinite(wanted)):
            return False  # by a tolerance relative to infinity all would be the same
        return bool(abs(found - wanted) <= tolerance * max(1.0, abs(wanted)))
    return bool(found == wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _asked(
    http: Client, server: RunningServer, given: Rows, rows: Sequence[Any], what: str
) -> list[Any]:
    try:
        answer = http.post(given.url(server), json={**given.more, given.key: list(rows)})
    except httpx.TransportError as error:  # it has crashed, or computes for more than a minute
        raise DataError(
            f"{what}: signature '{given.signature}' ({given.method}) gives no answer, for which it "
            f"has {_TIMEOUT_SECONDS:g} s: {said(error)}; the end of the server's log: "
            f"{server.last_words()}"
        ) from error
    if answer.status_code != httpx.codes.OK:
        raise DataError(
            f"{what}: signature '{given.signature}' ({given.method}) does not answer: "
            f"{answer.status_code}: {answer.text[:_SHOWN]}; correct the rows, or name their "
            "signature with --signature"
        )
    found = answer.json()
    answers = found["predictions" if given.method == "predict" else "results"]
    if not isinstance(answers, list) or len(answers) != len(rows):
        raise DataError(f"{what}: found {_words(answers)}, expected {len(rows)} answers")
    return answers


def _words(found: Any) -> str:
    text = str(found)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def offline_answers(model: Path, given: Rows) -> list[Any] | str:
    """Return what TensorFlow's second loader answers in this process; or in words why it cannot.

    The server uses the first loader, JSON and the network: what one of them changes shows here.
    """
    from components.package.imported_reference import reference_answers

    if given.method != "predict":
        return f"'{given.signature}' is a signature for {given.method}"
    return reference_answers(model, given.signature, given.rows)
