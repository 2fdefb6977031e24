"""What the bodies of all prediction requests have in common."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson

from contract.errors import did_you_mean
from contract.model_io import DEFAULT_SIGNATURE
from serving.server.http.content_encoding import decoded_body, is_gzip
from serving.server.http.messages import Request, RequestError
from serving.server.requests.instances import InputReader

_COMPARED_KEYS = 20  # of a body that has neither key: to compare millions takes minutes
_SHOWN_CHARACTERS = 200


def parse_body(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the body as a JSON object; a gzip body may inflate to `max_bytes`.

    Raises:
        RequestError: 415 or 413 if it is compressed in a way that is not taken, or inflates to too
            much; 400 if it is not a JSON object.
    """
    content = request.body
    if encoding := request.headers.get(b"content-encoding"):
        content = decoded_body(content, encoding, max_bytes)
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        hint = "; it looks like gzip: send content-encoding: gzip" if is_gzip(content) else ""
        raise RequestError(400, f"body: not JSON: {error}{hint}") from error
    if type(body) is not dict:
        raise RequestError(400, 'body: expected a JSON object, as in {"instances": [...]}')
    return body


def rows_or_columns(body: dict[str, Any]) -> str:
    """Return which of `instances` (rows) and `inputs` (columns) a `:predict` body has; or 400."""
    found = [key for key in ("instances", "inputs") if key in body]
    if len(found) == 1:
        return found[0]
    expected = "expected exactly one of 'instances' (rows) and 'inputs' (columns)"
    if found:
        raise RequestError(400, f"body: found both 'instances' and 'inputs'; {expected}")
    some = [key[:_SHOWN_CHARACTERS] for key in islice(body, _COMPARED_KEYS)]
    near = next((hint for k in some if (hint := did_you_mean(k, ("instances", "inputs")))), "")
    raise RequestError(400, f"body: {expected}{near}")


def choose_reader(
    readers: Mapping[str, InputReader], body: dict[str, Any]
) -> tuple[str, InputReader]:
    """Return the signature that a `:predict` body names, and its reader; or raise 400."""
    name = body.get("signature_name") or DEFAULT_SIGNATURE
    if type(name) is not str or name not in readers:
        known = ", ".join(f"'{known}'" for known in readers)
        raise RequestError(400, f"signature_name: found {name!r}, expected one of {known}")
    return name, readers[name]


def read_examples(body: dict[str, Any]) -> Any:
    """Return the rows of a :classify or :regress body, each with the shared context."""
    context, examples = body.get("context", {}), body.get("examples")
    if type(context) is not dict:
        raise RequestError(400, "context: expected an object")
    if type(examples) is not list or not all(type(example) is dict for example in examples):
        raise RequestError(400, "examples: expected a list of objects")
    return [{**context, **example} for example in examples] if context else examples
