"""The judge for rollouts that others steer: counts in, advice out, a state for each rollout."""
