"""NumPy arrays of text in files without pickle, in which another process could put a program.

NumPy is not imported: of the contract, only `wire/` depends on it.
"""

from typing import Any

_TEXT_KINDS = "OSU"
_END = b"."  # NumPy's fixed-width text forgets zero bytes at its end


def storable(array: Any) -> Any:
    """Return an array that `np.savez(allow_pickle=False)` takes; text becomes fixed-width bytes.

    Raises:
        TypeError: If it holds other objects than text.
    """
    if array.dtype.kind not in _TEXT_KINDS:
        return array
    texts = array.astype(object)
    texts.reshape(-1)[:] = [_encoded(one) + _END for one in array.reshape(-1).tolist()]
    return texts.astype("S")


def restored(array: Any) -> Any:
    """Return what `storable` was given; text as an array of `bytes` objects."""
    if array.dtype.kind != "S":
        return array
    texts = array.astype(object)
    texts.reshape(-1)[:] = [one.removesuffix(_END) for one in array.reshape(-1).tolist()]
    return texts


def _encoded(text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"expected text, found {type(text).__name__}")
