"""The services of this machine: what runs, on which ports, started and stopped."""
