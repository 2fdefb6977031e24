"""How often late labels roll a version back wrongly, and how many it takes where it is worse.

Run as `python tests/benchmarks/bench_late_labels.py [--sequences N]`. Each sequence is the labels
of two versions, as many of each, judged after each hundred by the judge's own test, up to 3,000.
Labels are either of all requests, or asked for mostly where the model is unsure, where both
versions are wrong more often; then they carry the probability of their choice. Or the label loop
asks, a hundred rows a harvest and ten of them whatever the model thinks; then each weighs as the
loop has it. Rates are given with
their exact 95 % intervals; a limit is alpha, or the least share found.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
from bench_judge import emit_ratio
from support import emit

from components.deploy.judging.accuracy import Figures, log_evidence_worse

SEED = 20_261_130
ALPHA, MARGIN = 0.01, 0.01
EACH, MOST = 100, 3_000


@dataclass(frozen=True)
class Case:
    """Two accuracies, in 0..1, and whose labels there are: of all, of unsure rows, the loop's."""

    name: str
    before: float
    now: float
    chosen: str = ""


CASES = (
    Case("90 % both", 0.90, 0.90),
    Case("90 % to 89 %, the margin", 0.90, 0.89),
    Case("90 % to 89 %, unsure answers labelled", 0.90, 0.89, "unsure"),
    Case("99 % to 98 %, the margin", 0.99, 0.98),
    Case("90 % to 80 %", 0.90, 0.80),
    Case("90 % to 85 %", 0.90, 0.85),
    Case("90 % to 85 %, unsure answers labelled", 0.90, 0.85, "unsure"),
    Case("99 % to 95 %", 0.99, 0.95),
    Case("90 % both, by the loop", 0.90, 0.90, "loop"),
    Case("90 % to 80 %, by the loop", 0.90, 0.80, "loop"),
    Case("99 % to 80 %, by the loop", 0.99, 0.80, "loop"),
)


def labels(random: np.random.Generator, accuracy: float, chosen: str) -> Figures:
    """Draw the labels of one version."""
    if chosen == "loop":
        return labels_of_harvests(random, accuracy)
    if not chosen:
        return Figures.of((random.random(MOST) < accuracy).astype(float), np.ones(MOST), 1.0)
    size = 4 * MOST
    is_unsure = random.random(size) < 0.2
    right = random.random(size) >= (1 - accuracy) * np.where(is_unsure, 3.0, 0.5)
    probabilities = np.where(is_unsure, 1.0, 0.25)
    asked = np.flatnonzero(random.random(size) < probabilities)[:MOST]
    return Figures.of(right[asked].astype(float), probabilities[asked], 0.25)


def labels_of_harvests(random: np.random.Generator, accuracy: float) -> Figures:
    """Draw what people say of harvests of 500 to 5,000 rows; unsure rows are asked ten times more.

    A weight is the audit's part of the probability, as in `cli.labels.judging`.
    """
    rights, weights = [], []
    for rows in random.integers(500, 5_000, MOST // EACH + 2):
        is_unsure = random.random(rows) < 0.2
        worth = np.where(is_unsure, 1.0, 0.1)
        audit, by_worth = 0.1 * EACH / rows, np.minimum(1.0, 0.9 * EACH * worth / worth.sum())
        chance = 1 - (1 - audit) * (1 - by_worth)
        is_asked = random.random(rows) < chance
        right = random.random(rows) >= (1 - accuracy) * np.where(is_unsure, 3.0, 0.5)
        rights.append(right[is_asked].astype(float))
        weights.append((audit / chance)[is_asked])
    return Figures(np.concatenate(rights)[:MOST], np.concatenate(weights)[:MOST])


def labels_until_found(case: Case, seed: int) -> int | None:
    """Return after how many labels of each version it is found worse; None if it never is."""
    random = np.random.default_rng([SEED, seed])
    before, now = (labels(random, p, case.chosen) for p in (case.before, case.now))
    for count in range(EACH, MOST + 1, EACH):
        ours, theirs = (Figures(one.right[:count], one.weights[:count]) for one in (now, before))
        if log_evidence_worse(ours, theirs, MARGIN) >= -math.log(ALPHA):
            return count
    return None


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=1_000)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    options = parser.parse_args()
    sequences = options.sequences
    for case in (one for one in CASES if options.only in one.name):
        found = [labels_until_found(case, seed) for seed in range(sequences)]
        needed = [count for count in found if count is not None]
        is_worse = case.before - case.now > MARGIN + 1e-9
        name = f"late labels: {case.name}"
        emit_ratio(f"{name}, rolled back", len(needed), sequences, 0.99 if is_worse else ALPHA)
        if is_worse and needed:
            median, p95 = (float(np.percentile(needed, q)) for q in (50, 95))
            emit(f"{name}, labels of each until then", median, None, None, "labels", p95=p95)


if __name__ == "__main__":
    main()
