"""Saved models that several tests of the optimiser use."""

import shutil
import sys
from pathlib import Path

import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; their support is found so

from small_models import SIGNATURE, WordModel, random_network, save_keras


@pytest.fixture
def word_model(tmp_path: Path) -> Path:
    """A saved WordModel whose vocabulary file is gone: it must live on in the assets."""
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("red\ngreen\nblue\n")
    module = WordModel(vocabulary)
    function = module.__call__.get_concrete_function(
        word=tf.TensorSpec([None], tf.string, "word"),
        boost=tf.TensorSpec([None], tf.float32, "boost"),
    )
    tf.saved_model.save(module, str(tmp_path / "words"), {SIGNATURE: function})
    vocabulary.unlink()
    return tmp_path / "words"


@pytest.fixture(scope="session")
def saved_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "network"
    save_keras(random_network(3), place)
    return place


@pytest.fixture
def network(saved_network: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(saved_network, tmp_path / "network")
    return tmp_path / "network"
