"""What a pass hands back."""

from dataclasses import dataclass

from components.optimize.graphs import GraphModel

_SHOWN_KINDS = 5


@dataclass(frozen=True)
class Change:
    """A rewritten model and, in words, what was matched and changed."""

    model: GraphModel
    note: str


def change_of(before: GraphModel, after: GraphModel) -> Change:
    """Return a change whose note counts operations: `9 → 4 operations: Identity -4, NoOp -1`."""
    old, new = before.operations(), after.operations()
    changes = {kind: new[kind] - old[kind] for kind in sorted(old | new) if new[kind] != old[kind]}
    if not changes:
        return Change(after, f"nothing matched among {old.total()} operations")
    largest = sorted(changes.items(), key=lambda item: -abs(item[1]))
    shown = ", ".join(f"{kind} {count:+d}" for kind, count in largest[:_SHOWN_KINDS])
    rest = len(largest) - _SHOWN_KINDS
    more = f" and {rest} more kinds" if rest > 0 else ""
    return Change(after, f"{old.total()} → {new.total()} operations: {shown}{more}")
