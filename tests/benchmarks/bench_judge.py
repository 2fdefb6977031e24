"""How many requests the judge needs, and how often it is wrong, against a fixed-sample test.

Run as `python tests/benchmarks/bench_judge.py [--trials N]`. The peer is the exact binomial test
with the smallest fixed sample that keeps the same `alpha` and `beta`: what one would use without a
sequential test. Limits are the config's own promises, and Wald's expected sample.
"""

import argparse
import json

import numpy as np
from scipy import stats

from components.deploy.evidence import Counts
from components.deploy.judge import Rung, judge_rung
from components.deploy.sequential import Errors, Limits, log_likelihood_ratio
from contract.schema.serving import DeployConfig

SEED = 20_261_121
STABLE = Counts(requests=5_000, errors=25)
LOOK_EVERY_REQUESTS = 5
LONGEST = 20_000


def requests_until_judged(
    ratio: float, config: DeployConfig, random: np.random.Generator, has_credit: bool = False
) -> tuple[str, int]:
    """Return the first decision on a stream of requests that fail at `ratio`, and its sample."""
    errors = np.cumsum(random.random(LONGEST) < ratio)
    for requests in range(LOOK_EVERY_REQUESTS, LONGEST, LOOK_EVERY_REQUESTS):
        counts = Counts(requests=requests, errors=int(errors[requests - 1]))
        decision = judge_rung(Rung(counts, STABLE, has_credit), config).decision
        if decision != "continue":
            return decision, requests
    return "continue", LONGEST


def whole_ladder(
    ratio: float, config: DeployConfig, random: np.random.Generator
) -> tuple[str, int]:
    """Return how the ladder ends for a version that fails at `ratio`, and its canary requests."""
    total = 0
    for number, _ in enumerate(config.ladder_percent):
        decision, requests = requests_until_judged(ratio, config, random, has_credit=number > 0)
        total += requests
        if decision != "pass":
            return decision, total
    return "pass", total


def fixed_sample(config: DeployConfig) -> tuple[int, int]:
    """Return the smallest sample, and from how many errors on it refuses, of an exact test."""
    for size in range(1, LONGEST):
        refuse_from = int(stats.binom.ppf(1 - config.alpha, size, config.allowed_error_ratio)) + 1
        if stats.binom.cdf(refuse_from - 1, size, config.refused_error_ratio) <= config.beta:
            return size, refuse_from
    raise AssertionError("no fixed sample found")


def expected_requests(ratio: float, config: DeployConfig) -> float:
    """Return Wald's expected sample of an ideal test of one ratio against the other.

    Source: Wald (1947), section 3.5; no test with the same errors needs fewer on average when the
    true ratio is one of the two.
    """
    errors = Errors(config.alpha, config.beta)
    limits = Limits(config.allowed_error_ratio, config.refused_error_ratio)
    is_bad = ratio >= limits.refused
    refused = 1 - config.beta if is_bad else config.alpha
    gained = refused * errors.refuse_at + (1 - refused) * errors.accept_at
    worse, better = log_likelihood_ratio(1, 1, limits), log_likelihood_ratio(0, 1, limits)
    return gained / (ratio * worse + (1 - ratio) * better)


def shared_trouble(ratio: float, config: DeployConfig, random: np.random.Generator) -> str:
    """Return how a canary at 50 % is judged that fails exactly as often as stable does."""
    canary = stable = Counts()
    while canary.requests < LONGEST:
        for_each = random.binomial(LOOK_EVERY_REQUESTS, ratio, 2)
        canary += Counts(requests=LOOK_EVERY_REQUESTS, errors=int(for_each[0]))
        stable += Counts(requests=LOOK_EVERY_REQUESTS, errors=int(for_each[1]))
        decision = judge_rung(Rung(canary, stable), config).decision
        if decision != "continue":
            return decision
    return "continue"


def line(name: str, ours: float, peer: float | None, limit: float | None, unit: str) -> None:
    """Print one figure."""
    figures = {
        "name": name,
        "ours": round(ours, 4),
        "peer": None if peer is None else round(peer, 4),
        "limit": None if limit is None else round(limit, 4),
        "ratio": round(ours / peer, 3) if peer else None,
        "unit": unit,
    }
    print(json.dumps(figures, ensure_ascii=False))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2_000)
    trials = parser.parse_args().trials
    config, random = DeployConfig(), np.random.default_rng(SEED)
    size, refuse_from = fixed_sample(config)

    for bad in (0.05, 0.10):
        judged = [requests_until_judged(bad, config, random) for _ in range(trials)]
        caught = [requests for decision, requests in judged if decision == "fail"]
        by_peer = float(stats.binom.sf(refuse_from - 1, size, bad))
        name = f"judge: a canary with {bad:.0%} errors"
        ideal = expected_requests(bad, config) if bad == config.refused_error_ratio else None
        line(f"{name}, caught", len(caught) / trials, by_peer, 1 - config.beta, "ratio")
        line(f"{name}, requests until caught, mean", np.mean(caught), size, ideal, "requests")
        line(f"{name}, requests until caught, median", np.median(caught), size, None, "requests")
        p95 = float(np.percentile(caught, 95))
        line(f"{name}, requests until caught, p95", p95, size, None, "requests")

    for good in (0.01, 0.001):
        judged = [requests_until_judged(good, config, random) for _ in range(trials)]
        passed = [requests for decision, requests in judged if decision == "pass"]
        wrong = sum(decision == "fail" for decision, _ in judged) / trials
        by_peer = float(stats.binom.sf(refuse_from - 1, size, good))
        name = f"judge: a canary with {good:.1%} errors"
        ideal = expected_requests(good, config) if good == config.allowed_error_ratio else None
        line(f"{name}, rolled back", wrong, by_peer, config.alpha, "ratio")
        line(f"{name}, requests until passed, mean", np.mean(passed), size, ideal, "requests")

    ladders = [whole_ladder(config.allowed_error_ratio, config, random) for _ in range(trials)]
    wrong = sum(decision == "fail" for decision, _ in ladders) / trials
    name = f"judge: a canary with {config.allowed_error_ratio:.1%} errors over the whole ladder"
    line(f"{name}, rolled back", wrong, None, config.alpha, "ratio")
    passed = [requests for decision, requests in ladders if decision == "pass"]
    line(f"{name}, canary requests, mean", float(np.mean(passed)), None, None, "requests")

    for both in (0.02, 0.05):
        blamed = [shared_trouble(both, config, random) == "fail" for _ in range(trials)]
        by_peer = float(stats.binom.sf(refuse_from - 1, size, both))
        name = f"judge: canary and stable both with {both:.0%} errors, at 50 %, rolled back"
        line(name, float(np.mean(blamed)), by_peer, None, "ratio")


if __name__ == "__main__":
    main()
