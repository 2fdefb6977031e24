"""Whether a JSON body has a key twice, told from what was parsed and the number of its colons.

The parser keeps the last value of a repeated key and does not tell. In a JSON text each key has one
colon, and the others stand in strings. So a text with as many colons as what was parsed has keys,
and strings have colons, lacks none of its keys. The usual body is proven by the keys of its first
two levels, and one with colons in strings by being written again, which is as fast as parsing. Only
where this leaves a doubt is the text parsed again, by a parser that tells.
"""

from typing import Any

import orjson

from contract.strict_json import RepeatedKey, find_repeated_key

_ESCAPED_COLON = b"\\u003"  # how one begins in any letters; it is no colon of the text


def repeated_key(text: bytes, parsed: dict[str, Any]) -> RepeatedKey | None:
    """Return a key that a JSON object, or one inside it, has twice; None if there is none.

    Args:
        text: The JSON text of the object.
        parsed: What a parser made of it.

    Raises:
        RecursionError: If it is nested so deeply that this cannot be told.
    """
    colons = text.count(b":")
    if colons == _keys_of_two_levels(parsed):
        return None
    if _ESCAPED_COLON not in text and colons == _colons(parsed):
        return None
    return find_repeated_key(text)


# --- inside -------------------------------------------------------------------------------------


def _keys_of_two_levels(parsed: dict[str, Any]) -> int:
    keys = len(parsed)
    for value in parsed.values():
        if type(value) is dict:
            keys += len(value)
        elif type(value) is list and value and type(value[0]) is dict:
            if set(map(type, value)) != {dict}:
                continue
            keys += sum(map(len, value))
    return keys


def _colons(parsed: dict[str, Any]) -> int:
    """Return how many colons keys and strings have; -1 if it is nested too deeply to be written."""
    try:
        return orjson.dumps(parsed).count(b":")
    except orjson.JSONEncodeError:
        return -1
