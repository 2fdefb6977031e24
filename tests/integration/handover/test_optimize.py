"""The optimiser on SavedModels made here, by plain TensorFlow and Keras: no pipeline in sight."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from components.optimize.gate import Samples
from components.optimize.graphs import GraphModel
from components.optimize.optimize import optimize
from components.optimize.passes import registry
from components.optimize.passes.change import Change
from components.saved_models import load
from contract.errors import DataError
from contract.schema import OptimizeConfig
from contract.storage import digest_directory

ALL = OptimizeConfig()
SIGNATURE = "serving_default"


# --- models -------------------------------------------------------------------------------------


def save_keras(model: keras.Model, path: Path) -> None:
    """Save a Keras model of one input as plain TensorFlow would."""
    module = tf.Module()
    module.model = model
    function = tf.function(lambda x: {"y": model(x, training=False)}, autograph=False)
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, "x")
    tf.saved_model.save(module, str(path), {SIGNATURE: function.get_concrete_function(x=spec)})


def random_network(seed: int) -> keras.Model:
    """Return a random chain of conv, batch norm, relu, add and dense with lively statistics."""
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x: Any = inputs
    for _ in range(random.integers(1, 4)):
        kind = random.choice([layers.Conv2D, layers.DepthwiseConv2D])
        size = {"filters": 4} if kind is layers.Conv2D else {}
        y = kind(kernel_size=3, padding="same", use_bias=bool(random.integers(2)), **size)(x)
        y = layers.Dropout(0.3)(layers.BatchNormalization()(y))
        y = layers.ReLU()(y) if random.integers(2) else y
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.Dense(5, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    for variable in model.variables:
        is_variance = variable.path.endswith("moving_variance")
        value = (
            random.uniform(0.5, 2.0, variable.shape)
            if is_variance
            else random.normal(0.0, 0.4, variable.shape)
        )
        if variable.dtype == "float32":
            variable.assign(value)
    return model


class WordModel(tf.Module):
    """Words through a vocabulary file, a gathered embedding, checks, a loop and a branch."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        kinds = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, kinds.WHOLE_LINE, tf.int64, kinds.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        self.embedding = tf.Variable(tf.reshape(tf.range(12.0), [4, 3]))
        self.calls = tf.Variable(0.5)

    @tf.function
    def __call__(self, word: tf.Tensor, boost: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.Assert(tf.reduce_all(boost < 100.0), ["too large"])
        tf.debugging.assert_all_finite(boost, "boost")
        value = tf.gather(self.embedding, self.table.lookup(word)) * boost[:, None]
        for step in tf.range(3):
            value = value + tf.cast(step, tf.float32) * self.calls
        value = tf.cond(tf.reduce_sum(boost) > 0.0, lambda: value * 2.0, lambda: value)
        return {"scores": tf.identity(value), "word": tf.strings.upper(word)}


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


WORDS: Samples = {
    SIGNATURE: {
        "word": np.array([b"red", b"blue", b"pink", b"green"], object),
        "boost": np.array([1.0, 2.0, -1.0, 0.5], np.float32),
    }
}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    save_keras(random_network(3), tmp_path / "network")
    return tmp_path / "network"


def images(rows: int = 9) -> Samples:
    return {SIGNATURE: {"x": np.random.default_rng(0).normal(size=(rows, 8, 8, 3)).astype("f4")}}


# --- what must survive --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_optimised_equals_original_on_random_networks(seed: int, tmp_path: Path) -> None:
    model = random_network(seed)
    save_keras(model, tmp_path / "in")
    ledger = optimize(tmp_path / "in", images(), ALL, tmp_path / "out")
    assert [row.name for row in ledger if row.is_kept] == ["original", *ALL.passes]
    assert all(row.max_relative_difference <= 1e-5 for row in ledger)
    rows = np.random.default_rng(9).normal(size=(5, 8, 8, 3)).astype("f4")  # not the samples
    found = load(tmp_path / "out").signature(SIGNATURE)(x=tf.constant(rows))["y"].numpy()
    np.testing.assert_allclose(found, model(rows, training=False).numpy(), atol=1e-5)
    assert ledger[-1].operations < ledger[0].operations / 2


def test_a_vocabulary_a_loop_and_a_branch_survive_all_passes(
    word_model: Path, tmp_path: Path
) -> None:
    ledger = optimize(word_model, WORDS, ALL, tmp_path / "out")
    assert all(row.is_kept for row in ledger), ledger
    assert (tmp_path / "out" / "assets" / "vocabulary.txt").read_text() == "red\ngreen\nblue\n"
    answer = load(tmp_path / "out").signature(SIGNATURE)(
        word=tf.constant(["blue", "red"]), boost=tf.constant([1.0, 3.0])
    )
    # blue is row 2 of the embedding, red row 0; the loop adds (0 + 1 + 2) * 0.5, the branch doubles
    np.testing.assert_allclose(
        answer["scores"].numpy(), [[15.0, 17.0, 19.0], [3.0, 9.0, 15.0]], rtol=1e-6
    )
    assert answer["word"].numpy().tolist() == [b"BLUE", b"RED"]


def test_the_signature_keeps_names_dtypes_and_free_batch_size(
    word_model: Path, tmp_path: Path
) -> None:
    optimize(word_model, WORDS, ALL, tmp_path / "out")
    before, after = load(word_model), load(tmp_path / "out")
    assert after.input_specs() == before.input_specs()
    outputs = after.signature(SIGNATURE).structured_outputs  # type: ignore[attr-defined]
    assert outputs["scores"].dtype == tf.float32
    assert outputs["scores"].shape[0] is None


def test_the_source_is_not_touched(network: Path, tmp_path: Path) -> None:
    before = digest_directory(network)
    optimize(network, images(), ALL, tmp_path / "out")
    assert digest_directory(network) == before


def test_passes_in_any_order_and_without_freezing(word_model: Path, tmp_path: Path) -> None:
    settings = OptimizeConfig(passes=("grappler", "remove_nodes", "strip_unused_nodes"))
    ledger = optimize(word_model, WORDS, settings, tmp_path / "out")
    assert all(row.is_kept for row in ledger), ledger


def test_a_graph_that_counts_its_calls_can_be_frozen(tmp_path: Path) -> None:
    """As random layers advance their seed: a write that no answer depends on."""
    module = tf.Module()
    module.weight, module.calls = tf.Variable(3.0), tf.Variable(0)

    def call(x: tf.Tensor) -> dict[str, tf.Tensor]:
        module.calls.assign_add(1)
        return {"y": x * module.weight}

    function = tf.function(call, autograph=False)
    traced = function.get_concrete_function(x=tf.TensorSpec([None], tf.float32, "x"))
    tf.saved_model.save(module, str(tmp_path / "in"), {SIGNATURE: traced})
    samples: Samples = {SIGNATURE: {"x": np.array([1.0, 2.0], np.float32)}}
    ledger = optimize(tmp_path / "in", samples, ALL, tmp_path / "out")
    assert all(row.is_kept for row in ledger), ledger
    assert GraphModel.lift(tmp_path / "out").signatures[SIGNATURE].captures == {}


# --- the gate -----------------------------------------------------------------------------------


def scaled_constants(model: GraphModel) -> Change:
    """A pass that breaks outputs: every float constant becomes 1 % larger."""

    def break_one(signature: Any) -> Any:
        graph = graph_pb2.GraphDef()
        graph.CopyFrom(signature.graph_def)
        for node in graph.node:
            if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
                value = tf.make_ndarray(node.attr["value"].tensor) * np.float32(1.01)
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return signature.with_graph(graph)

    return Change(model.rewritten(break_one), "made everything larger")


def renamed_output(model: GraphModel) -> Change:
    signature = model.signatures[SIGNATURE]
    outputs = {f"{name}_2": output for name, output in signature.outputs.items()}
    return Change(replace(model, signatures={SIGNATURE: replace(signature, outputs=outputs)}), "")


def raising(model: GraphModel) -> Change:
    raise RuntimeError(f"no pass for {len(model.signatures)} signature")


def with_pass(
    monkeypatch: pytest.MonkeyPatch, name: str, apply: Callable[[GraphModel], Change]
) -> None:
    passes = {**registry.PASSES, name: apply}
    monkeypatch.setattr("components.optimize.optimize.PASSES", passes)


def test_a_pass_that_breaks_outputs_is_undone_and_named(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pass(monkeypatch, "fold_constants", scaled_constants)
    ledger = optimize(network, images(), ALL, tmp_path / "out")
    undone = [row for row in ledger if not row.is_kept]
    assert [row.name for row in undone] == ["fold_constants"]
    assert "undone: outputs differ by" in undone[0].reason
    assert undone[0].max_relative_difference > 1e-3
    assert ledger[-1].is_kept  # the chain went on
    assert ledger[-1].max_relative_difference <= 1e-5


def test_a_pass_that_changes_a_signature_is_undone(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pass(monkeypatch, "grappler", renamed_output)
    ledger = optimize(network, images(), ALL, tmp_path / "out")
    assert not ledger[-1].is_kept
    assert "signature" in ledger[-1].reason
    answer = load(tmp_path / "out").signature(SIGNATURE)(x=tf.zeros([1, 8, 8, 3]))
    assert set(answer) == {"y"}


def test_a_pass_that_raises_is_undone_and_named(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pass(monkeypatch, "freeze_graph", raising)
    ledger = optimize(network, images(), ALL, tmp_path / "out")
    assert not ledger[1].is_kept
    assert ledger[1].reason == "undone: RuntimeError: no pass for 1 signature"
    assert ledger[-1].is_kept


def test_if_nothing_is_kept_the_original_goes_on(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pass(monkeypatch, "freeze_graph", raising)
    optimize(network, images(), OptimizeConfig(passes=("freeze_graph",)), tmp_path / "out")
    assert digest_directory(tmp_path / "out") == digest_directory(network)


# --- single passes on graphs of a few nodes -----------------------------------------------------


def lifted(tmp_path: Path, function: Callable[[tf.Tensor], tf.Tensor]) -> GraphModel:
    """Return a model of one input `x` (float32, any length) and one output `y`."""
    traced = tf.function(lambda x: {"y": function(x)}, autograph=False)
    spec = tf.TensorSpec([None], tf.float32, "x")
    signatures = {SIGNATURE: traced.get_concrete_function(x=spec)}
    tf.saved_model.save(tf.Module(), str(tmp_path / "few"), signatures)
    return GraphModel.lift(tmp_path / "few")


def test_strip_unused_nodes_drops_what_no_output_needs(tmp_path: Path) -> None:
    model = lifted(tmp_path, lambda x: x + 1.0)
    signature = model.signatures[SIGNATURE]
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    graph.node.add(name="lonely", op="NoOp")
    change = registry.PASSES["strip_unused_nodes"](
        replace(model, signatures={SIGNATURE: signature.with_graph(graph)})
    )
    assert "lonely" not in {n.name for n in change.model.signatures[SIGNATURE].graph_def.node}
    assert "NoOp -1" in change.note or "NoOp" in change.note


def test_remove_nodes_takes_out_identities_and_checks(tmp_path: Path) -> None:
    def checked(x: tf.Tensor) -> tf.Tensor:
        tf.debugging.Assert(tf.reduce_all(x > -5.0), ["small"])
        return tf.identity(tf.stop_gradient(tf.debugging.check_numerics(tf.identity(x), "x"))) * 2.0

    before = lifted(tmp_path, checked)
    after = registry.PASSES["remove_nodes"](before).model
    kinds = after.operations()
    assert kinds["Mul"] == 1
    assert not {"CheckNumerics", "StopGradient", "Assert", "All", "Greater", "If"} & set(kinds)
    assert kinds["Identity"] <= 1  # the output itself may be one


def test_fold_constants_computes_what_is_known(tmp_path: Path) -> None:
    model = lifted(tmp_path, lambda x: x + tf.sqrt(tf.constant(2.0) * tf.constant(8.0)))
    folded = registry.PASSES["fold_constants"](model).model
    kinds = folded.operations()
    assert kinds["Sqrt"] == kinds["Mul"] == 0
    folded.save(tmp_path / "folded")
    answer = load(tmp_path / "folded").signature(SIGNATURE)(x=tf.constant([1.0]))
    assert answer["y"].numpy().tolist() == [5.0]


def test_freeze_graph_leaves_no_variable(network: Path) -> None:
    frozen = registry.PASSES["freeze_graph"](GraphModel.lift(network)).model
    signature = frozen.signatures[SIGNATURE]
    assert frozen.operations()["ReadVariableOp"] == 0
    assert signature.captures == {}


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    model = registry.PASSES["freeze_graph"](lifted(tmp_path, lambda x: x + 1.0)).model
    assert "nothing matched" in registry.PASSES["strip_unused_nodes"](model).note


def test_every_pass_of_the_config_is_registered() -> None:
    literal = get_args(OptimizeConfig.model_fields["passes"].annotation)[0]
    assert set(get_args(literal)) == set(registry.PASSES)


# --- bad input ----------------------------------------------------------------------------------


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a SavedModel: no saved_model\.pb in it"):
        optimize(tmp_path, images(), ALL, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a SavedModel: no such directory"):
        optimize(tmp_path / "absent", images(), ALL, tmp_path / "out")


def test_a_broken_saved_model_is_refused(network: Path, tmp_path: Path) -> None:
    (network / "saved_model.pb").write_bytes(b"\x00not a protobuf")
    with pytest.raises(DataError, match="a SavedModel that cannot be loaded"):
        optimize(network, images(), ALL, tmp_path / "out")


def test_a_saved_model_without_signatures_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(DataError, match="without signatures"):
        optimize(tmp_path / "bare", images(), ALL, tmp_path / "out")


def test_rows_of_the_wrong_shape_are_refused(network: Path, tmp_path: Path) -> None:
    wrong: Samples = {SIGNATURE: {"x": np.zeros((3, 7, 7, 3), np.float32)}}
    with pytest.raises(DataError, match="the rows given do not fit"):
        optimize(network, wrong, ALL, tmp_path / "out")


def test_no_rows_are_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows to compare signature 'serving_default' on"):
        optimize(network, images(0), ALL, tmp_path / "out")
