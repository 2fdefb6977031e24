"""What the bodies of all prediction requests have in common."""

from collections.abc import Mapping
from typing import Any

import orjson

from serving.server.instances import InputReader
from serving.server.messages import Request, RequestError
from serving.server.runtime import DEFAULT_SIGNATURE


def parse_body(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object.

    Raises:
        RequestError: 415 if it is compressed, 400 if it is no JSON object.
    """
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise RequestError(
            415, f"content-encoding {encoding.decode('latin-1')}: send the body uncompressed"
        )
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"body: not JSON: {error}") from error
    if type(body) is not dict:
        raise RequestError(400, 'body: expected a JSON object, as in {"instances": [...]}')
    return body


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
