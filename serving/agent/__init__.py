"""Reconciles processes and traffic with the desired plan; the only writer of traffic."""
