"""Keras 3 in every component, and without what it imports for wrappers that no component uses.

Keras looks at its start whether scikit-learn, matplotlib and pandas are there, and so loads them:
2.7 of the 6.8 CPU seconds with which each process of a run begins. They are hidden from it alone,
and only while it is first imported; Keras then does without them, as where they are not installed,
and everybody else imports them as ever.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from absl import logging

HIDDEN = ("sklearn", "matplotlib", "pandas")


def keep_keras_3() -> None:
    """Let `tf.keras` be Keras 3 here and in child processes, whatever else is imported.

    tf.Transform, where it finds nothing in the environment, asks for Keras 2 in its stead for all
    of the process, users' models included. What it needs of Keras 2 itself it imports by name.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    # It would warn of this in each process.
    logging.get_absl_logger().addFilter(lambda said: "TF_USE_LEGACY_KERAS" not in str(said.msg))


def hide_from_keras() -> None:
    """Let the first import of Keras, also TensorFlow's own, be a lean one."""
    if "keras" not in sys.modules:
        sys.meta_path.insert(0, _LeanFinder())


class _LeanFinder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras" or name in sys.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LeanLoader(spec.loader)
        return spec


class _LeanLoader(Loader):
    def __init__(self, usual: Loader) -> None:
        self._usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._usual
        hidden = [name for name in HIDDEN if name not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not there
        try:
            self._usual.exec_module(module)
        finally:
            for name in hidden:
                del sys.modules[name]
