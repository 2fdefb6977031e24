"""Saved models that several tests of the optimiser use."""

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


@pytest.fixture
def network(tmp_path: Path) -> Path:
    save_keras(random_network(3), tmp_path / "network")
    return tmp_path / "network"
