"""Which key gives which answer."""

from collections.abc import Sequence
from dataclasses import dataclass

# The two large buttons lie left and right, as these keys do.
_GUESSES = (("ArrowLeft", "←"), ("ArrowRight", "→"))
_SPARE = "1234567890abcdefghijklmnopqrstuvwxyz"
_LARGE = 2


@dataclass(frozen=True)
class Choice:
    """A button: the class, its keys as browsers name them, and as a person reads them."""

    label: str
    key: str
    shown: str
    arrow: str = ""
    arrow_shown: str = ""
    score_percent: float | None = None


def choices(
    classes: Sequence[str], guesses: Sequence[tuple[str, float]]
) -> tuple[list[Choice], list[Choice]]:
    """Return the large buttons, of the model's best guesses, and a button for every other class.

    A class of one character has that key; the others have the keys 1 to 9, 0, a to z in the order
    of the config, as far as those are free. A key is always the same class.
    """
    keys = _keys(classes)
    best = [(label, score) for label, score in guesses if label in keys][:_LARGE]
    large = [
        Choice(label, keys[label], keys[label].upper(), *arrow, score_percent=100 * score)
        for (label, score), arrow in zip(best, _GUESSES, strict=False)
    ]
    taken = {choice.label for choice in large}
    others = [Choice(one, keys[one], keys[one].upper()) for one in classes if one not in taken]
    return large, others


def _keys(classes: Sequence[str]) -> dict[str, str]:
    own = [one.lower() for one in classes]
    is_short = all(len(one) == 1 and one.isalnum() for one in own) and len({*own}) == len(own)
    if is_short:
        return dict(zip(classes, own, strict=True))
    return {one: _SPARE[at] if at < len(_SPARE) else "" for at, one in enumerate(classes)}
