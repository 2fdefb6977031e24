"""The fewest layers to leave in float so that a lossy pass stays within its budget."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from components.data.raw_examples import Array
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.batches import answer
from components.optimize.judging.judgement import AnswerCost, AnswerJudge
from components.optimize.passes.change import Change
from components.optimize.passes.registry import LossyPass

log = logging.getLogger("slipway")

_SENSITIVITY_ROWS = 64

Call = Callable[..., Mapping[str, Any]]
Tried = TypeVar("Tried")


@dataclass(frozen=True)
class Search:
    """A lossy pass, the judge, and what the judge allows.

    Attributes:
        lossy: The pass.
        signature: The signature that is judged.
        inputs: Its evaluation rows; the first 64 show how sensitive each layer is.
        judge: Says what a candidate costs.
        budget_percent: The most that it may cost.
    """

    lossy: LossyPass
    signature: str
    inputs: Mapping[str, Array]
    judge: AnswerJudge
    budget_percent: float

    def run(self, model: GraphModel) -> "Found":
        """Try the pass on all layers; if that costs too much, leave the most sensitive in float.

        Layers are ranked by how far the pass moves the outputs if it changes that layer alone.
        """
        whole = self._try(())
        if whole.judgement.cost_percent <= self.budget_percent or not self.lossy.layers:
            return whole
        ranking = self.ranking(model)
        log.info("optimize: %d layers searched for those to leave in float", len(ranking))
        best = fewest(
            ranking, self._try, lambda one: one.judgement.cost_percent <= self.budget_percent
        )
        return whole if best is None else best

    def _try(self, float_layers: Collection[str]) -> "Found":
        change = self.lossy.apply(float_layers)
        judgement = self.judge.judge(self._call(change.model))
        return Found(change, tuple(float_layers), judgement)

    def ranking(self, model: GraphModel) -> list[str]:
        """Return the layers, the most sensitive first."""
        rows = {name: column[:_SENSITIVITY_ROWS] for name, column in self.inputs.items()}
        expected = answer(self._call(model), rows)
        moved = {}
        for layer in self.lossy.layers:
            others = [other for other in self.lossy.layers if other != layer]
            found = answer(self._call(self.lossy.apply(others).model), rows)
            moved[layer] = max(_moved(expected[name], found[name]) for name in expected)
        return sorted(moved, key=lambda layer: -moved[layer])

    def _call(self, model: GraphModel) -> Call:
        name = model.aliases.get(self.signature, self.signature)
        call: Call = model.signatures[name].concrete()
        return call


@dataclass(frozen=True)
class Found:
    """What a search ended with: the change, the layers it leaves in float, and what it costs."""

    change: Change
    float_layers: tuple[str, ...]
    judgement: AnswerCost


def fewest(
    ranking: Sequence[str],
    attempt: Callable[[Sequence[str]], Tried],
    is_good: Callable[[Tried], bool],
) -> Tried | None:
    """Return the good attempt that leaves the fewest of the first layers in float, or None.

    By bisection over the heads of the ranking, at least one layer and never all of them (that is
    no quantisation). It assumes that more layers in float never cost more.
    """
    best = None
    few, many = 1, len(ranking) - 1
    while few <= many:
        middle = (few + many) // 2
        tried = attempt(ranking[:middle])
        if is_good(tried):
            best, many = tried, middle - 1
        else:
            few = middle + 1
    return best


def _moved(expected: Array, found: Array) -> float:
    """Return the mean absolute difference over the mean magnitude; infinite if not finite."""
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected != found))
    apart = float(np.mean(np.abs(expected.astype(np.float64) - found)))
    scale = float(np.mean(np.abs(expected))) or 1.0
    return apart / scale if np.isfinite(apart) else np.inf
