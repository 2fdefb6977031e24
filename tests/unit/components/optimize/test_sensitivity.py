"""The fewest layers in float."""

from collections.abc import Sequence

from components.optimize.sensitivity import fewest

RANKING = ["a", "b", "c", "d", "e"]


def least(needed: int) -> tuple[Sequence[str] | None, list[int]]:
    """Return what is found where so many layers are needed, and which lengths were tried."""
    tried: list[int] = []

    def attempt(layers: Sequence[str]) -> Sequence[str]:
        tried.append(len(layers))
        return layers

    return fewest(RANKING, attempt, lambda layers: len(layers) >= needed), tried


def test_bisection_finds_the_shortest_head_that_is_good() -> None:
    assert least(1) == (["a"], [2, 1])
    assert least(3) == (["a", "b", "c"], [2, 3])


def test_all_in_float_is_no_quantisation() -> None:
    assert least(5)[0] is None
    assert fewest(["a"], list, bool) is None
