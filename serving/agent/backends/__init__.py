"""What moves traffic: each backend's entry, and their registry."""
