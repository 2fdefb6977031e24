"""A pipeline's code, looked at in a process that has its packages."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import yaml

from cli.checks.code_check import check_code
from cli.checks.findings import Finding

CONFIG = {
    "name": "shoes",
    "features": {"x": {"dtype": "float32"}},
    "heads": {"y": {"task": "binary_classification", "classes": ["a", "b"]}},
    "ingest": {"source": {"kind": "sklearn", "dataset": "iris"}},
}

MODEL = """
import keras

def build_model(features, hyperparameters):
    x = keras.layers.Reshape((1,))(features["x"])
    output = keras.layers.Dense(1, activation={activation!r}, name="last")(x)
    return keras.Model(inputs=features, outputs=output)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shoes"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "preprocessing.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    (folder / "model.py").write_text(MODEL.format(activation=None))
    return folder


def looked_at(check: Generator[Finding, None, int | None]) -> tuple[list[Finding], int | None]:
    """Return what a check yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(check))
        except StopIteration as end:
            return found, end.value


def test_code_that_needs_the_pipelines_own_package_is_found_good(
    folder: Path, tmp_path: Path, make_wheel: Callable[[Path, str], None]
) -> None:
    make_wheel(tmp_path / "wheels", "1.0")
    (folder / "requirements.txt").write_text(
        f"--no-index\n--find-links {tmp_path / 'wheels'}\nshoelace==1.0\n"
    )
    with (folder / "model.py").open("a") as model:
        model.write("\nimport shoelace\nprint(shoelace.VERSION)\n")
        model.write("import os\nos.write(1, b'as native code prints')\n")
    found = [(f.subject, f.state) for f in check_code(folder, {})]
    assert found == [("packages", "ok"), *3 * [("code", "ok")], ("model", "ok"), ("metrics", "ok")]


def test_requirements_that_cannot_be_met_are_an_error(folder: Path) -> None:
    (folder / "requirements.txt").write_text("--no-index\nshoelace==1.0\n")
    found, gpus = looked_at(check_code(folder, {}))
    assert {(f.subject, f.state) for f in found} == {("packages", "error")}
    assert gpus is None
    assert "shoes/requirements.txt: cannot be installed" in found[0].message


def test_code_and_metrics_that_are_wrong_are_errors_with_their_place(folder: Path) -> None:
    (finding,) = (f for f in check_code(folder, {"bless.metric": "beauty"}) if f.state == "error")
    assert (finding.subject, "beauty" in finding.message) == ("metrics", True)
    (folder / "model.py").write_text("import shoelace")
    (finding,) = (f for f in check_code(folder, {}) if f.state == "error")
    assert "No module named 'shoelace'" in finding.message
    assert "model.py:1" in finding.message


@pytest.mark.parametrize("code", [0, 7])
def test_code_that_kills_its_process_is_an_error(folder: Path, code: int) -> None:
    """What it prints before is not taken for the number of GPUs, which are counted earlier."""
    (folder / "model.py").write_text(f"import os\nos.write(1, b'gpus: 77\\n')\nos._exit({code})")
    (finding,), gpus = looked_at(check_code(folder, {}))
    assert gpus not in (None, 77)
    assert (finding.state, f"exit code {code}" in finding.message) == ("error", True)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("inputs['nope']", "preprocessing_fn: KeyError at preprocessing.py:4: 'nope'"),
        (
            "tf.map_fn(lambda v: v - tft.mean(v), inputs['x'])",
            "preprocessing_fn: tensorflow_transform refuses it: ValueError: ",
        ),
    ],
)
def test_preprocessing_is_tried_on_placeholders(folder: Path, returned: str, message: str) -> None:
    (folder / "preprocessing.py").write_text(
        "import tensorflow as tf\nimport tensorflow_transform as tft\n"
        f"def preprocessing_fn(inputs):\n    return {{'x': {returned}}}\n"
    )
    (finding,) = (f for f in check_code(folder, {}) if f.state == "error")
    assert message in finding.message


def test_the_model_is_built_on_placeholders(folder: Path) -> None:
    (folder / "model.py").write_text(MODEL.format(activation="sigmoid"))
    (finding,) = (f for f in check_code(folder, {}) if f.state == "error")
    assert finding.subject == "model"
    assert "head 'y' ends in a sigmoid (layer 'last'); expected logits" in finding.message
