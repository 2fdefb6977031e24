"""Counts in, decisions out: the statistics of a rollout. Reads nothing and waits for nothing."""
