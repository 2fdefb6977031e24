"""The work: one folder per component, each a process `python -m components.<name>`."""

from components.one_keras import hide_from_keras, keep_keras_3

keep_keras_3()
hide_from_keras()
