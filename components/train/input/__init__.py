"""Which examples a process reads, and when."""
