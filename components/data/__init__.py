"""Rows of data: as sources have them, as raw examples, as transformed examples."""
