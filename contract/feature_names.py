"""Names of features where TensorFlow and Keras want identifiers; everywhere else they are as given.

A SavedModel's signature and a Keras input take plain identifiers only, and some tools do not tell
`Age` from `age`. There, and nowhere else, a feature has its legal name; callers, examples, files
and messages have the user's own. An ordinary name is its own legal name.
"""

import hashlib
import keyword
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from contract.model_io import EXAMPLE_ID, LABEL_PREFIX, SLICE_PREFIX, SPLIT_PREFIX

_LEGAL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_TAKEN = frozenset({"self", "training", "mask"})  # parameters of TensorFlow's and Keras's functions
_SHOWN = 40  # characters of the user's name in a legal one

RESERVED = (EXAMPLE_ID,)
RESERVED_PREFIXES = (LABEL_PREFIX, SLICE_PREFIX, SPLIT_PREFIX)


def legal_names(names: Iterable[str]) -> dict[str, str]:
    """Return the legal name of each feature of a pipeline, in the order given.

    A name that is not an identifier, or differs from another only in case and is not in lower case,
    gets a legal one of its readable letters and a digest of it.
    """
    given = list(names)
    count = Counter(name.casefold() for name in given)
    return {
        name: name if _is_legal(name, count[name.casefold()] == 1) else _made_up(name)
        for name in given
    }


def name_problem(name: str) -> str:
    """Return why a column of this name cannot be a feature, or "" if it can."""
    if not name.strip():
        return "a feature needs a name; rename the column"
    if name in RESERVED or name.startswith(RESERVED_PREFIXES):
        return "the name is reserved for ids, labels and slices; rename the column"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return f"the name {name!a} holds a control character; rename the column"
    return ""


def _is_legal(name: str, is_only_case: bool) -> bool:
    if not _LEGAL.fullmatch(name) or keyword.iskeyword(name) or name in _TAKEN:
        return False
    return is_only_case or name == name.casefold()


def _made_up(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")[:_SHOWN]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"f_{readable}_{digest}" if readable else f"f_{digest}"
