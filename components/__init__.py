"""The work: one folder per component, each a process `python -m components.<name>`."""
