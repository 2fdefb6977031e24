"""One rule by which a label names a class, whatever file it comes from.

A label that is a class's own text is that class. Beyond that, numbers match by value (`1`, `1.0`,
`+1`, `1e0`), truth values in any case (`True`, `true`), and where all classes are 0, 1 or truth
values, truth values and numbers match each other. Zeros in front mean something (`01` is not `1`).
Where this would make one of two classes, only their own text names them.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

from contract.schema.data import HeadConfig

_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
)
_TRUTH = {"true": "1", "false": "0"}


class ClassNames:
    """The classes of one head, and what else its labels may be.

    Args:
        classes: In the order of their indices.
        strip: Characters that labels may wear around them.
        label_map: The classes of labels that are not named as their class is.
    """

    def __init__(
        self,
        classes: Sequence[str],
        strip: str = "",
        label_map: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        indices = {name: index for index, name in enumerate(classes)}
        indices |= {label: indices[name] for label, name in label_map.items()}
        self.names = tuple(indices)
        self._strip = strip
        self._exact = indices
        self._is_binary = all(_canonical(name, True) in ("0", "1") for name in classes)
        meant: dict[str, set[int]] = {}
        for name, index in indices.items():
            meant.setdefault(_canonical(name, self._is_binary), set()).add(index)
        self._by_form = {form: min(found) for form, found in meant.items() if len(found) == 1}

    @classmethod
    def of(cls, head: HeadConfig) -> "ClassNames":
        """Return the classes of a head, with what its labels may be."""
        return cls(head.classes, head.strip, head.label_map)

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
