"""A trial at the terminal: what its controller knows of it, and what a person tells it to do."""
