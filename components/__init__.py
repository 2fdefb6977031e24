"""The work: one folder per component, each a process `python -m components.<name>`."""

from components.lean_keras import hide_from_keras

hide_from_keras()
