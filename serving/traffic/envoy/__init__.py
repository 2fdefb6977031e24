"""The traffic backend that moves traffic with Envoy."""
