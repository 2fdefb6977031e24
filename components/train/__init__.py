"""Fit the user's model on the transformed examples and publish checkpoints."""
