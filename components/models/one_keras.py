"""Keras 3 in every component, without loading three large libraries that few pipelines need.

When Keras is imported, it also imports scikit-learn (for `keras.wrappers`), matplotlib (for
`keras.visualization`) and pandas (to recognise data frames): about half of the CPU time of the
import (docs/figures.md, `start_of_a_component`). Here it imports them later:

- The two parts of Keras are loaded when one of their attributes is first used.
- The module of Keras that recognises data frames does not find pandas until somebody imports it,
  and is then loaded again. Nobody has a data frame before that.

All other imports of these libraries are as usual, and so is a Keras that is imported before this
module. TensorFlow imports SciPy and Google's client for its legacy Keras and its cluster
resolvers; these names are bound when it is imported and cannot be bound later, so they stay.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from absl import logging

_Execute = Callable[[Loader, ModuleType], None]

LATE = frozenset({"keras.wrappers", "keras.visualization", "keras.src.visualization"})
PANDAS = "pandas"
_LOADING = "__loading__"
KNOWS_DATA_FRAMES = "keras.src.trainers.data_adapters.array_slicing"


def keep_keras_3() -> None:
    """Let `tf.keras` be Keras 3 here and in child processes, whatever else is imported.

    tf.Transform, where it finds nothing in the environment, asks for Keras 2 instead for all
    of the process, users' models included. What it needs of Keras 2 itself it imports by name.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    # It would warn of this in each process.
    logging.get_absl_logger().addFilter(lambda said: "TF_USE_LEGACY_KERAS" not in str(said.msg))


def import_keras_lean() -> None:
    """Let the first import of Keras, also TensorFlow's own, leave out what it can load later."""
    if "keras" not in sys.modules:
        sys.meta_path.insert(0, _LeanFinder())


class _LeanFinder(MetaPathFinder):
    """Finds a few modules as usual, and changes how they are executed."""

    def __init__(self) -> None:
        self._thread = threading.local()
        self._how: dict[str, _Execute] = {
            **dict.fromkeys(LATE, _execute_late),
            KNOWS_DATA_FRAMES: self._execute_without_pandas,
            PANDAS: _execute_and_tell_keras,
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == PANDAS and getattr(self._thread, "is_without_pandas", False):
            raise ModuleNotFoundError("left out while Keras is imported", name=name)
        if name not in self._how or target is not None:  # a reload has a target
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._how[name])
        return spec

    def _execute_without_pandas(self, usual: Loader, module: ModuleType) -> None:
        """Execute a module that does not find pandas, unless pandas is there already.

        Only this thread does not find it: others may import it at the same time.
        """
        self._thread.is_without_pandas = True
        try:
            usual.exec_module(module)
        finally:
            self._thread.is_without_pandas = False


class _Loader(Loader):
    """Hides behind a module's usual loader: it is there only until the module is executed."""

    def __init__(self, usual: Loader, execute: _Execute) -> None:
        self._usual = usual
        self._execute = execute

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._usual
        if module.__spec__ is not None:
            module.__spec__.loader = self._usual
        self._execute(self._usual, module)


def _execute_late(usual: Loader, module: ModuleType) -> None:
    vars(module)[_LOADING] = _Loading(usual)
    module.__class__ = _LateModule


class _LateModule(ModuleType):
    """A module that is executed when an attribute of it is first used.

    Tools that look through all modules for one special name (`__warningregistry__`) do not
    cause that; `__all__` does, for `from keras.wrappers import *`. After it this is an ordinary
    module. `importlib.util.LazyLoader` differs: special names load there, and a second thread sees
    a module that is half loaded.
    """

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__") or name == "__all__":
            _load(self)
        return ModuleType.__getattribute__(self, name)

    def __dir__(self) -> list[str]:
        _load(self)
        return list(ModuleType.__dir__(self))


def _load(module: ModuleType) -> None:
    loading = vars(module).get(_LOADING)
    if loading is not None:
        loading.load(module)


class _Loading:
    """Executes one module, in one thread; the others wait, and then find it done."""

    def __init__(self, usual: Loader) -> None:
        self._usual = usual
        self._lock = threading.RLock()
        self._has_begun = False  # in this thread, if it holds the lock: the module asks itself

    def load(self, module: ModuleType) -> None:
        with self._lock:
            if self._has_begun or _LOADING not in vars(module):
                return
            self._has_begun = True
            try:
                self._usual.exec_module(module)
            finally:
                self._has_begun = False
            module.__class__ = ModuleType
            del vars(module)[_LOADING]


def _execute_and_tell_keras(usual: Loader, pandas: ModuleType) -> None:
    usual.exec_module(pandas)
    keras = sys.modules.get(KNOWS_DATA_FRAMES)
    if keras is not None and vars(keras).get(PANDAS, pandas) is None:
        importlib.reload(keras)
