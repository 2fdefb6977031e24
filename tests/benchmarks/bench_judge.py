"""How many requests the judge needs, and how often it is wrong, against a fixed-sample test.

Run as `python tests/benchmarks/bench_judge.py [--trials N]`. The peer is the exact binomial test
with the smallest fixed sample that keeps the same `alpha` and `beta`: what one would use without a
sequential test. The limits are the config's own promises.
"""

import argparse
import json

import numpy as np
from scipy import stats

from components.deploy.evidence import Counts
from components.deploy.judge import Rung, judge_rung
from contract.schema import DeployConfig

SEED = 20_261_121
STABLE = Counts(requests=5_000, errors=25)
LOOK_EVERY_REQUESTS = 5
LONGEST = 20_000


def requests_until_judged(
    ratio: float, config: DeployConfig, random: np.random.Generator
) -> tuple[str, int]:
    """Return the first decision on a stream of requests that fail at `ratio`, and its sample."""
    errors = np.cumsum(random.random(LONGEST) < ratio)
    for requests in range(LOOK_EVERY_REQUESTS, LONGEST, LOOK_EVERY_REQUESTS):
        counts = Counts(requests=requests, errors=int(errors[requests - 1]))
        decision = judge_rung(Rung(counts, STABLE), config).decision
        if decision != "continue":
            return decision, requests
    return "continue", LONGEST


def fixed_sample(config: DeployConfig) -> tuple[int, int]:
    """Return the smallest sample, and from how many errors on it refuses, of an exact test."""
    for size in range(1, LONGEST):
        refuse_from = int(stats.binom.ppf(1 - config.alpha, size, config.allowed_error_ratio)) + 1
        if stats.binom.cdf(refuse_from - 1, size, config.refused_error_ratio) <= config.beta:
            return size, refuse_from
    raise AssertionError("no fixed sample found")


def line(name: str, ours: float, peer: float, limit: float, unit: str) -> None:
    """Print one figure."""
    ratio = round(ours / peer, 3) if peer else None
    figures = {"ours": round(ours, 4), "peer": round(peer, 4), "limit": limit, "ratio": ratio}
    print(json.dumps({"name": name, **figures, "unit": unit}))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2_000)
    trials = parser.parse_args().trials
    config, random = DeployConfig(), np.random.default_rng(SEED)
    size, refuse_from = fixed_sample(config)

    for bad in (0.05, 0.10):
        judged = [requests_until_judged(bad, config, random) for _ in range(trials)]
        caught = sum(decision == "fail" for decision, _ in judged) / trials
        samples = [requests for decision, requests in judged if decision == "fail"]
        by_peer = float(stats.binom.sf(refuse_from - 1, size, bad))
        name = f"judge, 1 % → {bad:.0%} errors"
        line(f"{name}: caught", caught, by_peer, 1 - config.beta, "ratio")
        line(f"{name}: requests, median", float(np.median(samples)), size, 0, "requests")
        line(f"{name}: requests, p95", float(np.percentile(samples, 95)), size, 0, "requests")

    for good in (0.01, 0.001):
        judged = [requests_until_judged(good, config, random) for _ in range(trials)]
        wrong = sum(decision == "fail" for decision, _ in judged) / trials
        samples = [requests for decision, requests in judged if decision == "pass"]
        by_peer = float(stats.binom.sf(refuse_from - 1, size, good))
        name = f"judge, good canary with {good:.1%} errors"
        line(f"{name}: rolled back", wrong, by_peer, config.alpha, "ratio")
        line(f"{name}: requests to pass, median", float(np.median(samples)), size, 0, "requests")


if __name__ == "__main__":
    main()
