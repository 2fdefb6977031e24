"""Users as blocks: with sticky arms, many bad answers may be those of one user.

Where a user keeps the arm (`deploy.sticky_header`), the canary's users are a sample of all users,
drawn once. A user who always fails, because of what they send, fails on one arm only, in every
second: no number of requests or seconds tells such a user from a bad version, only the number of
users does. `deploy.sticky_users` says how many there are. Then a roll-back needs, besides its own
test, that such a bad sample of users is unlikely to be drawn from all of them, whatever each user's
ratio is.

Source: the chance of drawing such a sample without replacement (hypergeometric), to the leading
order of its logarithm; Hoeffding (1963), Journal of the American Statistical Association 58(301),
theorem 1 and section 6, for users whose ratios are between 0 and 1. It holds at one moment;
bench_judge measures what looking on every rung does.
"""

import math


def log_evidence_of_users(ratio: float, of_stable: float, users: float, share: float) -> float:
    """Return the log of the evidence that the canary's users fail for the canary, not by chance.

    Args:
        ratio: Share of the canary's answers that are bad, the mean over its users, in 0..1.
        of_stable: The same of stable's.
        users: Number of users in all.
        share: The canary's share of them, between 0 and 1, both excluded.
    """
    if ratio <= of_stable:
        return 0.0
    of_all = share * ratio + (1.0 - share) * of_stable
    divergence = share * _divergence(ratio, of_all)
    return users * (divergence + (1.0 - share) * _divergence(of_stable, of_all))


def _divergence(ratio: float, expected: float) -> float:
    """Return the relative entropy of two ratios (Kullback & Leibler 1951), in nats."""
    found = ratio * math.log(ratio / expected) if ratio else 0.0
    if ratio < 1.0:
        found += (1.0 - ratio) * math.log((1.0 - ratio) / (1.0 - expected))
    return found
