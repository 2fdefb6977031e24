"""What the draw of users alone decides, where users keep their arm (`deploy.sticky_users`).

Run as `python tests/benchmarks/bench_sticky_users.py [--draws N]`. Both versions are equally good:
some users fail because of what they send, 1 % of all requests together. Each draw gives every user
a hash, and so decides who meets the canary on which rung. With as many requests as one likes, the
ratios of both arms are those of their users; then no more requests change a decision. A draw is
counted as *passed* if every rung would be passed, *held* if the canary's users look too bad for one
of them, *rolled back* if the evidence of users reaches its bound on one. Rates are given with their
exact 95 % intervals.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench_judge import emit_ratio

from components.deploy.judging.accounts import bound
from components.deploy.judging.users import log_evidence_of_users
from contract.schema.serving import DeployConfig

SEED = 20_261_129
CONFIG = DeployConfig()
WAYS = (CONFIG.rungs_percent, (25, 50, 95))
# Wald's test drifts to neither side here, between 1 % allowed and 5 % refused.
UNDECIDED = math.log(0.99 / 0.95) / (math.log(5) + math.log(0.99 / 0.95))


@dataclass(frozen=True)
class Trouble:
    """A share of the users, in 0..1, fails on a share of its requests, in 0..1."""

    users: float
    ratio: float


TROUBLES = (Trouble(0.1, 0.1), Trouble(0.02, 0.5), Trouble(0.01, 1.0))


def outcome(users: int, trouble: Trouble, way: Sequence[int], random: np.random.Generator) -> str:
    """Draw all users' hashes and walk the rungs."""
    hashes, is_troubled = random.uniform(0, 100, users), random.random(users) < trouble.users
    for percent in way:
        is_met = hashes < percent
        ratio, of_stable = (
            float(is_troubled[arm].mean()) * trouble.ratio if arm.any() else 0.0
            for arm in (is_met, ~is_met)
        )
        evidence = log_evidence_of_users(ratio, of_stable, users, percent / 100)
        if evidence >= math.log(bound("errors", CONFIG.alpha)):
            return "rolled back"
        margin = CONFIG.refused_error_ratio - CONFIG.allowed_error_ratio
        if ratio >= max(UNDECIDED, of_stable + margin):
            return "held"
    return "passed"


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    draws = parser.parse_args().draws
    for users in (400, 1_000, 4_000, 40_000):
        for trouble in TROUBLES:
            for way in WAYS:
                random = np.random.default_rng([SEED, users])
                found = [outcome(users, trouble, way, random) for _ in range(draws)]
                name = (
                    f"users: {trouble.users:.0%} of {users:,} fail {trouble.ratio:.0%}, from "
                    f"{way[0]} % on"
                )
                for ending, limit in (("passed", 0.95), ("held", None), ("rolled back", 0.01)):
                    emit_ratio(f"{name}, {ending}", found.count(ending), draws, limit)


if __name__ == "__main__":
    main()
