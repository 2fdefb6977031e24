"""One rule by which a label names a class, whatever file it comes from.

A label that is a class's own text is that class. Beyond that, numbers match by value (`1`, `1.0`,
`+1`, `1e0`), truth values in any case (`True`, `true`), and where all classes are 0, 1 or truth
values, truth values and numbers match each other. Zeros in front mean something (`01` is not `1`).
Where this would make one of two classes, only their own text names them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
)
_TRUTH = {"true": "1", "false": "0"}


class ClassNames:
    """The classes of one head, and the characters that its labels may wear around them."""

    def __init__(self, classes: Sequence[str], strip: str = "") -> None:
        self.names = tuple(classes)
        self._strip = strip
        self._exact = {name: index for index, name in enumerate(classes)}
        self._is_binary = all(_canonical(name, True) in ("0", "1") for name in classes)
        forms = [_canonical(name, self._is_binary) for name in classes]
        count = Counter(forms)
        self._by_form = {f: index for index, f in enumerate(forms) if count[f] == 1}

    def index(self, label: str) -> int | None:
        """Return the index of the class that a label names, or None if it names none."""
        text = label.strip()
        text = text.strip(self._strip) if self._strip else text
        if text in self._exact:
            return self._exact[text]
        return self._by_form.get(_canonical(text, self._is_binary))


def _canonical(text: str, is_binary: bool) -> str:
    lower = text.lower()
    if lower in _TRUTH:
        return _TRUTH[lower] if is_binary else lower
    if not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    return format(number.normalize(), "f") if number else "0"
