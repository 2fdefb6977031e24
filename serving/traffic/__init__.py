"""Backends that make a TrafficPlan true."""
