"""HTTP/1.1: connections, targets, cross-origin requests."""
