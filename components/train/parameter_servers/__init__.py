"""Training by parameter servers: chief, servers and workers."""
