"""How often late labels roll a version back wrongly, and how many it takes where it is worse.

Run as `python tests/benchmarks/bench_late_labels.py [--sequences N]`. Each sequence is the labels
of two versions, as many of each, judged after each hundred by the judge's own test, up to 3,000.
Labels are either of all requests, or asked for mostly where the model is unsure, where both
versions are wrong more often; then they carry the probability of their choice. Rates are given with
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
    """Two accuracies, in 0..1, and whether labels are asked for where the model is unsure."""

    name: str
    before: float
    now: float
    is_chosen: bool = False


CASES = (
    Case("90 % both", 0.90, 0.90),
    Case("90 % to 89 %, the margin", 0.90, 0.89),
    Case("90 % to 89 %, unsure answers labelled", 0.90, 0.89, True),
    Case("99 % to 98 %, the margin", 0.99, 0.98),
    Case("90 % to 80 %", 0.90, 0.80),
    Case("90 % to 85 %", 0.90, 0.85),
    Case("90 % to 85 %, unsure answers labelled", 0.90, 0.85, True),
    Case("99 % to 95 %", 0.99, 0.95),
)


def labels(random: np.random.Generator, accuracy: float, is_chosen: bool) -> Figures:
    """Draw the labels of one version."""
    if not is_chosen:
        return Figures.of((random.random(MOST) < accuracy).astype(float), np.ones(MOST), 1.0)
    size = 4 * MOST
    is_unsure = random.random(size) < 0.2
    right = random.random(size) >= (1 - accuracy) * np.where(is_unsure, 3.0, 0.5)
    probabilities = np.where(is_unsure, 1.0, 0.25)
    asked = np.flatnonzero(random.random(size) < probabilities)[:MOST]
    return Figures.of(right[asked].astype(float), probabilities[asked], 0.25)


def labels_until_found(case: Case, seed: int) -> int | None:
    """Return after how many labels of each version it is found worse; None if it never is."""
    random = np.random.default_rng([SEED, seed])
    before, now = (labels(random, p, case.is_chosen) for p in (case.before, case.now))
    for count in range(EACH, MOST + 1, EACH):
        ours, theirs = (Figures(one.right[:count], one.weights[:count]) for one in (now, before))
        if log_evidence_worse(ours, theirs, MARGIN) >= -math.log(ALPHA):
            return count
    return None


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=1_000)
    sequences = parser.parse_args().sequences
    for case in CASES:
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
