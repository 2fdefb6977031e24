"""The work: one folder per component, each a process `python -m components.<name>`."""

from components.models.one_keras import import_keras_lean, keep_keras_3

keep_keras_3()
import_keras_lean()
