"""base64 inside of JSON, as callers write it."""

import base64
import binascii

_WEB_SAFE = str.maketrans("-_", "+/")
_WHITESPACE = str.maketrans("", "", " \t\r\n")


def bytes_of_base64(text: str) -> bytes:
    """Return the bytes of base64 text: standard or web-safe, with or without padding, also wrapped.

    Source: RFC 4648, sections 4 and 5; TensorFlow Serving also takes text without padding.

    Raises:
        ValueError: If it is not base64, with the reason.
    """
    plain = text.translate(_WHITESPACE).translate(_WEB_SAFE)
    content = plain.rstrip("=")
    missing = -len(content) % 4
    if missing == 3:
        raise ValueError(f"{len(content)} characters cannot be base64; is it cut off?")
    if len(plain) - len(content) not in (0, missing):
        raise ValueError(f"{len(plain) - len(content)} padding characters, expected {missing} or 0")
    try:
        return base64.b64decode(content + "=" * missing, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(_odd_character(content) or str(error)) from error


def _odd_character(content: str) -> str:
    """Name the first character that no base64 has."""
    for place, character in enumerate(content):
        if not (character.isascii() and (character.isalnum() or character in "+/")):
            return f"character {place} is {character!r}"
    return ""
