"""Why a pass was kept or undone, in words for the ledger."""

import math

from components.optimize.judging.gate import Difference
from components.optimize.sensitivity import Found

_SHOWN_LAYERS = 5
# What float32's rounding adds up to over many layers, where a pass changes the order of sums.
_ROUNDING_RELATIVE, _ROUNDING = 1e-4, "; this small difference may be the rounding of a deep model"


def refusal(difference: Difference, allowed: float) -> str:
    """Say why a float pass is undone."""
    if math.isinf(difference.relative):
        return "undone: a signature changed, or an output is of another shape or not finite"
    return (
        f"undone: outputs differ by {difference.relative:.3g} relative, at most {allowed:g} is "
        f"allowed (tolerance{_ROUNDING if difference.relative < _ROUNDING_RELATIVE else ''})"
    )


def verdict(found: Found, layers: int, budget: float, is_kept: bool) -> str:
    """Say what a lossy pass costs, and which layers its budget leaves in float."""
    cost = found.judgement.in_words
    if not is_kept:
        return (
            f"undone: costs {cost} and may cost {budget:g}; no choice of float layers among "
            f"{layers} suffices"
        )
    words = f"{found.change.note}; costs {cost} of {budget:g}"
    if not found.float_layers:
        return words
    shown = ", ".join(found.float_layers[:_SHOWN_LAYERS])
    more = len(found.float_layers) - _SHOWN_LAYERS
    rest = f" and {more} more" if more > 0 else ""
    return (
        f"{words}; over budget at first, so {len(found.float_layers)} of {layers} layers, the most "
        f"sensitive, stay in float: {shown}{rest}"
    )
