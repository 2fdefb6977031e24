"""The names of a source's columns: all that are needed are there, each of them once."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from contract.errors import DataError, did_you_mean


def check_repeats(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if a name stands twice, with the places; columns without a name may."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, start=1):
        places.setdefault(name, []).append(place)
    repeated = {name: at for name, at in places.items() if name and len(at) > 1}
    if repeated:
        told = "; ".join(
            f"{name} (columns {', '.join(map(str, at))})" for name, at in repeated.items()
        )
        raise DataError(f"{path}: column names repeat: {told}; give each column its own name")


def check_columns(
    path: Path, found: Sequence[str], expected: Sequence[str], hint: str = ""
) -> None:
    """Raise DataError if a file lacks an expected column, with the nearest name that it has.

    Args:
        hint: What else may explain it, a whole sentence.
    """
    missing = [name for name in expected if name not in found]
    if not missing:
        return
    new = [name for name in found if name not in expected]
    hints = ", ".join(f"'{name}'{_nearest(name, new)}" for name in missing)
    extra = f"; columns that the config does not name: {', '.join(new)}" if new else ""
    raise DataError(f"{path}: missing columns: {hints}{extra}. {hint or _ADVICE}".rstrip())


def check_types(path: Path, problems: Mapping[str, str]) -> None:
    """Raise DataError if a column is of a type that its feature cannot take: `{column: why}`."""
    if problems:
        told = "; ".join(f"column '{name}' {why}" for name, why in problems.items())
        raise DataError(f"{path}: {told}")


# --- inside -------------------------------------------------------------------------------------

_ADVICE = "Fix the file, or name its columns under 'features' and 'heads' in pipeline.yaml."


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at a name that differs in case, spaces or look only, or at a similar one."""
    same = [other for other in known if _folded(other) == _folded(name)]
    if not same:
        return did_you_mean(name, known)
    if _printed(same[0]) == _printed(name):
        return f"; did you mean {same[0]!a}, which looks the same?"
    return f"; did you mean '{same[0]}'?"


def _folded(name: str) -> str:
    letters = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in letters if c.isalnum()) or name


def _printed(name: str) -> str:
    """Return a name as a person sees it."""
    composed = unicodedata.normalize("NFC", name)
    return "".join(c for c in composed if c.isprintable())
