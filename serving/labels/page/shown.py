"""A question's inputs as a page shows them: pictures, texts and a table."""

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_LONG_TEXT = 60  # characters; a shorter text is a cell of the table
_MOST_CELL = 2_000
# The first bytes of pictures that browsers decode.
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


@dataclass(frozen=True)
class Picture:
    """An address that holds the picture itself, and what it is, for those who do not see it."""

    source: str
    words: str
    is_drawn: bool = False  # from numbers: shown large, each pixel as a square


@dataclass
class Shown:
    """The inputs of one question."""

    pictures: list[Picture] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)


def shown(inputs: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Return how to show inputs.

    Args:
        inputs: By name; bytes that are no text stand as `{"base64": ...}`.
        features: By name, each with its `shape`.
    """
    found = Shown()
    for name, value in inputs.items():
        shape = features.get(name, {}).get("shape", ())
        if is_grid(shape):
            try:
                found.pictures.append(_drawn(name, value, shape))
            except (TypeError, ValueError, struct.error):
                found.cells.append((name, f"no picture: expected numbers of shape {list(shape)}"))
        elif isinstance(value, Mapping):
            _add_bytes(found, name, str(value.get("base64", "")))
        elif isinstance(value, str) and len(value) > _LONG_TEXT:
            found.texts.append((name, value))
        else:
            found.cells.append((name, _cell(value)))
    return found


def is_grid(shape: Sequence[int]) -> bool:
    """Tell whether an input is a picture: rows of pixels, grey or of three colours."""
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and min(shape[:2]) > 1


def png(pixels: Sequence[bytes], width: int, is_colour: bool) -> bytes:
    """Return a PNG file of 8-bit rows.

    Source:
        PNG (Third Edition), W3C 2025: signature, IHDR, IDAT without filters, IEND.
    """
    header = struct.pack(">IIBBBBB", width, len(pixels), 8, 2 if is_colour else 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row for row in pixels))
    parts = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def _drawn(name: str, value: Sequence[Any], shape: Sequence[int]) -> Picture:
    """Draw numbers: the least is black, the largest white."""
    rows = [_flat(row) for row in value]
    numbers = [number for row in rows for number in row]
    least, most = min(numbers), max(numbers)
    scale = 255 / (most - least) if most > least else 0.0
    pixels = [bytes(round((number - least) * scale) for number in row) for row in rows]
    height, width = shape[0], shape[1]
    is_colour = len(shape) == 3 and shape[2] == 3
    if [len(row) for row in pixels] != [width * (3 if is_colour else 1)] * height:
        raise ValueError("not of its shape")
    encoded = base64.b64encode(png(pixels, width, is_colour)).decode()
    words = f"{name}: picture of {width} by {height} pixels"
    return Picture(f"data:image/png;base64,{encoded}", words, is_drawn=True)


def _flat(values: Any) -> list[float]:
    if isinstance(values, list):
        return [number for value in values for number in _flat(value)]
    return [float(values)]


def _add_bytes(found: Shown, name: str, encoded: str) -> None:
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    kind = next((kind for start, kind in _PICTURES if content.startswith(start)), None)
    if kind is None:
        found.cells.append((name, f"{len(content):,} bytes that are neither text nor a picture"))
        return
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    found.pictures.append(Picture(source, f"{name}: picture, {len(content):,} bytes"))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value[:100])[:_MOST_CELL]
    return f"{value:g}" if isinstance(value, float) else str(value)[:_MOST_CELL]
