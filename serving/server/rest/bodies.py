"""What the bodies of all prediction requests have in common."""

import codecs
from collections.abc import Callable, Mapping, Set
from itertools import islice
from typing import Any, NamedTuple

import orjson

from contract.errors import did_you_mean
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.prediction import ARM_HEADER
from serving.server.core.asked import Asked, Caller
from serving.server.engines.engine import Outputs
from serving.server.http.content_encoding import decoded_body, is_gzip
from serving.server.http.messages import Request, RequestError
from serving.server.requests.errors import SHOWN_CHARACTERS
from serving.server.requests.instances import InputReader
from serving.server.requests.repeated_keys import repeated_key

JSON_HEADERS = b"content-type: application/json\r\n"

_ARM_HEADER = ARM_HEADER.encode()
_COMPARED_KEYS = 20  # of a body that has neither key: to compare millions takes minutes


class Body(NamedTuple):
    """A body that is answered, where its headers are not those of JSON."""

    content: bytes
    headers: bytes = JSON_HEADERS


Formatter = Callable[[Outputs], bytes | Body]
Decoded = tuple[Asked, Formatter]


def caller_of(request: Request) -> Caller:
    """Return who sent a request."""
    arm = request.headers.get(_ARM_HEADER, b"")
    return Caller(request.request_id, arm, request.received_at)


def parse_body(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the body as a JSON object; a gzip body may inflate to `max_bytes`.

    Raises:
        RequestError: 415 or 413 if it is compressed in a way that is not taken, or inflates to too
            much; 400 if it is not a JSON object.
    """
    return json_object(content_of(request, max_bytes))


def content_of(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of a body; see `parse_body`."""
    if encoding := request.headers.get(b"content-encoding"):
        return decoded_body(request.body, encoding, max_bytes)
    return request.body


def json_object(content: bytes) -> dict[str, Any]:
    """Return what is a JSON object, and has no key twice; or raise 400."""
    if content.startswith(codecs.BOM_UTF8):  # RFC 8259 8.1 lets a parser ignore it
        content = content[len(codecs.BOM_UTF8) :]
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"body: not JSON: {error}{_hint(content)}") from error
    if type(body) is not dict:
        raise RequestError(400, 'body: expected a JSON object, as in {"instances": [...]}')
    _check_keys(content, body)
    return body


def rows_or_columns(body: dict[str, Any]) -> str:
    """Return which of `instances` (rows) and `inputs` (columns) a `:predict` body has; or 400."""
    found = [key for key in ("instances", "inputs") if key in body]
    if len(found) == 1:
        return found[0]
    expected = "expected exactly one of 'instances' (rows) and 'inputs' (columns)"
    if found:
        raise RequestError(400, f"body: found both 'instances' and 'inputs'; {expected}")
    some = [key[:SHOWN_CHARACTERS] for key in islice(body, _COMPARED_KEYS)]
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


def read_examples(body: dict[str, Any], known: Set[str], max_rows: int) -> Any:
    """Return the rows of a :classify or :regress body, each with the shared context.

    Rows that the reader refuses anyway, as too many or for an unknown name in the context, get no
    copies of it: a small body could ask for gigabytes.
    """
    context, examples = body.get("context", {}), body.get("examples")
    if type(context) is not dict:
        raise RequestError(400, "context: expected an object")
    if type(examples) is not list or not all(type(example) is dict for example in examples):
        raise RequestError(400, "examples: expected a list of objects")
    if not context or len(examples) > max_rows:
        return examples
    if not context.keys() <= known:
        examples = examples[:1]
    return [{**context, **example} for example in examples]


def _hint(content: bytes) -> str:
    if is_gzip(content):
        return "; it looks like gzip: send content-encoding: gzip"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:2]:
        return "; it looks like UTF-16: send UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"; byte {error.start} is none of UTF-8: send UTF-8"
    return ""


def _check_keys(content: bytes, body: dict[str, Any]) -> None:
    try:
        found = repeated_key(content, body)
    except RecursionError as error:
        raise RequestError(400, "body: nested deeper than any input of a model") from error
    if found is not None:
        key, place = (words[:SHOWN_CHARACTERS] for words in found)
        raise RequestError(
            400, f"{place or 'body'}: found the key '{key}' twice; expected each key once"
        )
