"""A server's engine is imported without collections, and the collector then ignores it."""

import subprocess
import sys

from contract.places import CODE_FOLDER

SCRIPT = """
import gc, sys
counted = []
gc.callbacks.append(lambda phase, info: counted.append(phase))
before = gc.get_freeze_count()
from serving.server.engines.engine_import import import_engine
counted.clear()
import_engine(is_tensorflow={is_tensorflow})
print(len(counted), gc.isenabled(), gc.get_freeze_count() > before + 1000)
print("tensorflow" in sys.modules, "keras" in sys.modules)
"""


def said_after(*, is_tensorflow: bool) -> list[str]:
    command = [sys.executable, "-c", SCRIPT.format(is_tensorflow=is_tensorflow)]
    done = subprocess.run(command, cwd=CODE_FOLDER, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_tensorflow_comes_without_keras_and_without_a_collection() -> None:
    assert said_after(is_tensorflow=True) == ["0 True True", "True False"]


def test_another_engine_does_not_import_tensorflow() -> None:
    assert said_after(is_tensorflow=False) == ["0 True True", "False False"]
