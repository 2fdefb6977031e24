"""What a browser or a program sends: a short form, or a short JSON object."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import Request

from contract.errors import DataError

MOST_BYTES = 16 * 1024


@dataclass(frozen=True)
class Reply:
    """What somebody does with a question: `answer`, `unsure`, `skip` or `undo`."""

    action: str
    question: int
    label: str
    mark: str


async def body_of(request: Request, most_bytes: int) -> bytes:
    """Return what was sent.

    Raises:
        DataError: If it is longer than allowed.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise DataError(f"expected at most {most_bytes:,} bytes, found more")
    return bytes(body)


async def fields(request: Request) -> Mapping[str, str]:
    """Return the fields of a form, or of a JSON object.

    Raises:
        DataError: If the body is too long or neither of them.
    """
    body = await body_of(request, MOST_BYTES)
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            found = json.loads(body)
            if not isinstance(found, dict):
                raise ValueError("expected an object")
            found = {str(key): "" if value is None else str(value) for key, value in found.items()}
            "".join([*found, *found.values()]).encode()  # a lone surrogate is no text
            return found
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected a form or a JSON object: {error}") from error


def reply_of(sent: Mapping[str, str]) -> Reply:
    """Return what the fields say.

    Raises:
        DataError: If they do not say what is to be done with which question.
    """
    action = sent.get("do") or ("answer" if "label" in sent else "")
    question = sent.get("question", "")
    is_number = question.isascii() and question.isdecimal() and len(question) < 10
    if action not in ("answer", "unsure", "skip", "undo") or not (is_number or action == "undo"):
        raise DataError(
            "expected 'question', the number of a question, and 'label', or 'do' as one of "
            f"unsure, skip, undo; found {', '.join(sorted(sent)) or 'nothing'}"
        )
    return Reply(
        action, int(question) if is_number else 0, sent.get("label", ""), sent.get("mark", "")
    )
