"""How accurate two versions are, by labels that come late and not for every request.

The figure of a request is the share of its labelled rows that were predicted right, so that rows
of one request, which are alike, count as one. Evidence is the gain of bets, as in `sequential`:
`1 + risk * weight * (figure - ratio)` for each request has a mean of at most 1 if the true ratio is
at most `ratio`, whatever else the figures do. The risks are fixed, so the product does not depend
on the order of the labels: it may be looked at whenever new ones have come.

A label that was asked for with probability p weighs 1/p: the mean over the requests that were
labelled is then that of all requests. Weights are scaled to 1 for the least probability that is
configured. One that is found in the labels so far would be lower after the next rare one; then all
bets before it would be others, and only a single look would be sound.

Sources: Ville (1939) and Waudby-Smith & Ramdas (2024), Journal of the Royal Statistical Society B
86(1), for the bets and for confidence sequences from them; Horvitz & Thompson (1952) for weights.
"""

import math
from dataclasses import dataclass

import numpy as np

# Parts of the capital that are risked: for small differences, and for few requests.
RISKS = (0.02, 0.1, 0.3, 0.8)
_RATIOS = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True)
class Figures:
    """What labels say of one version: arrays ``[requests]``, both in 0..1.

    `weights` are the least probability of a choice over the probability of each.
    """

    right: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, right: np.ndarray, probabilities: np.ndarray, least: float) -> "Figures":
        """Return the figures of requests whose labels were chosen with these probabilities.

        None of them is below `least`, which was fixed before there were labels.
        """
        return cls(right, least / probabilities)

    @property
    def accuracy(self) -> float:
        """The weighted mean; 0 without requests."""
        total = float(self.weights.sum())
        return float(self.weights @ self.right) / total if total else 0.0


def interval(figures: Figures, error: float) -> tuple[float, float]:
    """Return a range for the true accuracy; the chance that it is ever wrong is at most `error`.

    The whole range 0..1 without requests. Its ends are ratios in steps of 0.001.
    """
    enough = math.log(2.0 / error)
    is_above = log_evidence(figures, _RATIOS, 1.0) >= enough
    is_below = log_evidence(figures, _RATIOS, -1.0) >= enough
    low = _RATIOS[is_above].max(initial=0.0)
    high = _RATIOS[is_below].min(initial=1.0)
    return float(low), float(high)


def log_evidence_worse(version: Figures, before: Figures, margin: float) -> float:
    """Return the log of the evidence that a version is less accurate by more than a margin.

    The ratio of the version before is not known. So the evidence is that of the ratio which speaks
    least against the version: that the one before is above it, times that this one is below it
    less the margin. If it is not worse, the chance that this ever reaches log(1/alpha) is at most
    alpha.
    """
    above = log_evidence(before, _RATIOS, 1.0)
    below = log_evidence(version, _RATIOS - margin, -1.0)
    # Between two ratios: `above` falls and `below` rises, so their outer ends are the least.
    return float((above[1:] + below[:-1]).min())


def log_evidence(figures: Figures, ratios: np.ndarray, side: float) -> np.ndarray:
    """Return the log of the evidence that the accuracy is above (1) or below (-1) each ratio."""
    if not len(figures.right):
        return np.zeros(len(ratios))
    pairs = np.stack([figures.right, figures.weights], axis=1)
    (right, weights), counts = _distinct(pairs)
    gained = [
        sum(
            count * np.log1p(side * risk * weight * (figure - np.clip(ratios, 0.0, 1.0)))
            for figure, weight, count in zip(right, weights, counts, strict=True)
        )
        for risk in RISKS
    ]
    found: np.ndarray = np.logaddexp.reduce(gained, axis=0) - math.log(len(RISKS))
    return found


def _distinct(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, counts = np.unique(pairs, axis=0, return_counts=True)
    return values.T, counts
