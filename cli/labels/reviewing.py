"""What all answers say together, for the reviewer's page: by consensus where it is installed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.extras import absence

if TYPE_CHECKING:
    from serving.labels.page.conflicts import Judge, Opinion
    from serving.labels.store.records import Answered


def judge() -> "Judge":
    """Return the consensus of the extra `components`; without it, the votes."""
    from serving.labels.page.conflicts import by_votes

    return by_votes if absence("components") else by_consensus


def by_consensus(said: "Sequence[Answered]", classes: Sequence[str]) -> "Opinion":
    """Return each question's label with its confidence, and who is right how often."""
    from cli.labels.learning import settled
    from components.labels.consensus.people import ENOUGH
    from serving.labels.page.conflicts import Opinion

    if all(one.label is None or one.is_untellable for one in said):
        return Opinion()
    found = settled(said, classes)
    numbers = {(one.request_id, str(one.row)): one.question for one in said}
    return Opinion(
        {numbers[one.place]: (one.label, one.confidence) for one in found.labels},
        {one.name: one.accuracy_ratio for one in found.people if one.answers >= ENOUGH},
    )
