"""Keras's late parts, tried on a small Keras, pandas and scikit-learn of the same names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER

PACKAGES = {
    "keras/__init__.py": """
        from keras.src.trainers.data_adapters import array_slicing
        from keras import wrappers as wrappers
        """,
    "keras/wrappers/__init__.py": """
        import sys, time
        import sklearn
        sys.executed = getattr(sys, "executed", 0) + 1
        time.sleep(0.3)
        from keras.wrappers import part
        SKLearnClassifier = part
        """,
    "keras/wrappers/part.py": "",
    "keras/src/__init__.py": "",
    "keras/src/trainers/__init__.py": "",
    "keras/src/trainers/data_adapters/__init__.py": "",
    "keras/src/trainers/data_adapters/array_slicing.py": """
        import json, sys
        sys.asking = True
        try:
            import pandas
        except ImportError:
            pandas = None
        """,
    "pandas.py": "FRAME = 1",
    "sklearn.py": "",
}
SLICING = "keras.src.trainers.data_adapters.array_slicing"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name, code in PACKAGES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = code.splitlines()
        indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
        path.write_text("\n".join(x[indent:] for x in lines))
    return tmp_path


def run(packages: Path, code: str) -> None:
    """Run code in a process that finds the packages first, and the project."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(CODE_FOLDER)])}
    command = [sys.executable, "-c", f"import sys\n{code}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_part_of_keras_is_loaded_when_it_is_first_used(packages: Path) -> None:
    run(
        packages,
        """
import components, keras, inspect
inspect.getmodule(lambda: 0)
assert getattr(keras.wrappers, "__warningregistry__", None) is None
import keras.wrappers
assert "sklearn" not in sys.modules, "nobody has used it"
part = keras.wrappers.SKLearnClassifier
assert "sklearn" in sys.modules and part is sys.modules["keras.wrappers.part"]
assert type(keras.wrappers) is type(sys) and keras.wrappers.__spec__.loader is not None
assert not hasattr(keras.wrappers, "nothing") and sys.executed == 1
""",
    )


@pytest.mark.parametrize(
    "use",
    [
        "from keras.wrappers import *\nSKLearnClassifier",
        "from keras.wrappers import SKLearnClassifier",
        "import keras.wrappers\nassert 'SKLearnClassifier' in dir(keras.wrappers)",
    ],
)
def test_every_way_to_use_a_part_finds_it(packages: Path, use: str) -> None:
    run(packages, f"import components, keras\n{use}\nassert sys.executed == 1")


def test_threads_that_use_a_part_at_once_all_find_it_whole(packages: Path) -> None:
    run(
        packages,
        """
import components, keras
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda _: keras.wrappers.SKLearnClassifier, range(8)))
assert len(set(map(id, found))) == 1 and sys.executed == 1
""",
    )


def test_a_part_that_cannot_be_loaded_says_so_each_time_and_can_be_later(packages: Path) -> None:
    (packages / "sklearn.py").write_text("raise ImportError('broken')")
    run(
        packages,
        f"""
import components, keras, pathlib
for _ in range(2):
    try:
        keras.wrappers.SKLearnClassifier
    except ImportError as error:
        assert str(error) == "broken"
    else:
        raise AssertionError
pathlib.Path({str(packages)!r}, "sklearn.py").write_text("MENDED = True")
assert keras.wrappers.SKLearnClassifier
""",
    )


def test_keras_learns_of_pandas_when_anybody_imports_it(packages: Path) -> None:
    run(
        packages,
        f"""
import components, keras
slicing = sys.modules[{SLICING!r}]
assert slicing.pandas is None and "pandas" not in sys.modules
import pandas
assert pandas.FRAME == 1
assert slicing.pandas is pandas and sys.modules[{SLICING!r}] is slicing
""",
    )


@pytest.mark.parametrize("before", ["import pandas", "import keras"])
def test_what_was_imported_before_is_as_usual(packages: Path, before: str) -> None:
    run(
        packages,
        f"{before}\nimport components, keras, pandas\n"
        f"assert sys.modules[{SLICING!r}].pandas is pandas\n"
        f"assert keras.wrappers.SKLearnClassifier",
    )


def test_another_thread_finds_pandas_while_keras_does_not(packages: Path) -> None:
    path = packages / (SLICING.replace(".", "/") + ".py")
    waits = "import sys, time\nwhile 'pandas' not in sys.modules:\n    time.sleep(0.01)\n"
    path.write_text(f"try:\n    import pandas\nexcept ImportError:\n    pandas = None\n{waits}")
    run(
        packages,
        f"""
import components, threading, time
def look():
    while getattr(sys.modules.get({SLICING!r}), "pandas", True):
        time.sleep(0.01)
    import pandas
thread = threading.Thread(target=look)
thread.start()
import keras
thread.join(20)
assert sys.modules[{SLICING!r}].pandas is sys.modules["pandas"]
assert sys.modules["pandas"].FRAME == 1
""",
    )


def test_a_keras_without_pandas_does_without(packages: Path) -> None:
    (packages / "pandas.py").write_text("raise ImportError('not for this machine')")
    run(
        packages,
        f"""
import components, keras
try:
    import pandas
except ImportError as error:
    assert str(error) == "not for this machine"
assert sys.modules[{SLICING!r}].pandas is None
""",
    )
