"""What a pass hands back."""

from dataclasses import dataclass

from components.optimize.graphs import GraphModel

_SHOWN_KINDS = 5


@dataclass(frozen=True)
class Change:
    """A rewritten model and, in words, what was matched and changed."""

    model: GraphModel
    note: str
    is_change: bool = True


def unchanged(model: GraphModel, reason: str) -> Change:
    """Return the model as it was, and why."""
    return Change(model, f"nothing matched: {reason}", is_change=False)


def operation_changes(before: GraphModel, after: GraphModel) -> dict[str, int]:
    """Return by kind how many more operations there are, those that changed most first."""
    old, new = before.operations(), after.operations()
    changes = {kind: new[kind] - old[kind] for kind in sorted(old | new) if new[kind] != old[kind]}
    return dict(sorted(changes.items(), key=lambda item: -abs(item[1])))


def change_of(before: GraphModel, after: GraphModel) -> Change:
    """Return a change whose note counts operations: `9 → 4 operations: Identity -4, NoOp -1`.

    If all counts are as before nothing has matched, and the model is the one before.
    """
    old, new = before.operations().total(), after.operations().total()
    changes = operation_changes(before, after)
    if not changes:
        return Change(before, f"nothing matched among {old} operations", is_change=False)
    shown = ", ".join(f"{kind} {count:+d}" for kind, count in list(changes.items())[:_SHOWN_KINDS])
    rest = len(changes) - _SHOWN_KINDS
    more = f" and {rest} more kinds" if rest > 0 else ""
    return Change(after, f"{old} → {new} operations: {shown}{more}")
