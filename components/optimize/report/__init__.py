"""What an optimisation did, as tables and pictures."""
