"""What a pass hands back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.grappler import run_grappler

_SHOWN_KINDS = 5
_SHOWN_NAMES = 3
_PARTS_OF_A_NAME = 2


@dataclass(frozen=True)
class Change:
    """A rewritten model and, in words, what was matched and changed."""

    model: GraphModel
    note: str
    is_change: bool = True


@dataclass(frozen=True)
class Findings:
    """What a pass matched, and what it might have matched and why it did not, by node."""

    matched: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def match(self, node: str) -> None:
        """Remember a node that was rewritten, whatever stood in the way before."""
        self.matched[node] = None
        self.refused.pop(node, None)

    def refuse(self, node: str, reason: str) -> None:
        """Remember why a node was left alone."""
        self.refused[node] = reason

    def in_words(self) -> str:
        """Return `; matched a, b, c and 2 more; left 2 (reason), 1 (reason)`, or nothing."""
        words = f"; matched {_shown(self.matched)}" if self.matched else ""
        counts = Counter(self.refused.values())
        left = ", ".join(f"{count} ({reason})" for reason, count in counts.most_common())
        return f"{words}; left {left}" if left else words


def unchanged(model: GraphModel, reason: str) -> Change:
    """Return the model as it was, and why."""
    return Change(model, f"nothing matched: {reason}", is_change=False)


def operation_changes(before: GraphModel, after: GraphModel) -> dict[str, int]:
    """Return by kind how many more operations there are, those that changed most first."""
    old, new = before.operations(), after.operations()
    changes = {kind: new[kind] - old[kind] for kind in sorted(old | new) if new[kind] != old[kind]}
    return dict(sorted(changes.items(), key=lambda item: -abs(item[1])))


def change_of(before: GraphModel, after: GraphModel, findings: Findings | None = None) -> Change:
    """Return a change whose note counts operations: `9 → 4 operations: Identity -4, NoOp -1`.

    If all counts are as before nothing has matched, and the model is the one before. What is known
    of single nodes (`findings`) is added.
    """
    old, new = before.operations().total(), after.operations().total()
    changes, more = operation_changes(before, after), findings.in_words() if findings else ""
    if not changes:
        return Change(before, f"nothing matched among {old} operations{more}", is_change=False)
    shown = ", ".join(f"{kind} {count:+d}" for kind, count in list(changes.items())[:_SHOWN_KINDS])
    rest = len(changes) - _SHOWN_KINDS
    kinds = f" and {rest} more kinds" if rest > 0 else ""
    return Change(after, f"{old} → {new} operations: {shown}{kinds}{more}")


def _shown(names: Iterable[str]) -> str:
    short = ["/".join(name.split("/")[-_PARTS_OF_A_NAME:]) for name in names]
    rest = f" and {len(short) - _SHOWN_NAMES} more" if len(short) > _SHOWN_NAMES else ""
    return ", ".join(short[:_SHOWN_NAMES]) + rest


def by_grappler(signature: SignatureGraph, optimizers: Sequence[str]) -> SignatureGraph:
    """Return a signature after some of Grappler's optimizers; its feeds and fetches survive."""
    keep = [*signature.feeds, *signature.fetches]
    return signature.with_graph(run_grappler(signature.graph_def, keep, optimizers))
