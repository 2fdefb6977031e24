"""What survives all passes, what the gate undoes, and what a budget keeps."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    CLASSES,
    EVERYTHING,
    FLOAT_ONLY,
    SIGNATURE,
    WORDS,
    data_of,
    images,
    labelled,
    outlier_model,
    random_network,
    run_chain,
    save_function,
    settings,
)
from tensorflow.core.framework import graph_pb2

from components.models.saved_models import load
from components.optimize.engines.core import Core
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.batches import Samples
from components.optimize.optimize import optimize
from components.optimize.passes import quantize_nodes, registry
from components.optimize.passes.change import Change
from components.optimize.report.pictures import pictures_of
from contract.errors import DataError
from contract.records.optimization import OptimizeRecord
from contract.schema.optimize import OptimizeConfig
from contract.storage import digest_directory

FLOAT = settings(*FLOAT_ONLY)
ALL = settings(min_gain_ratio=0.0)

# --- what must survive --------------------------------------------------------------------------


LOSSY = settings(*EVERYTHING, min_gain_ratio=0.0, budget_percent=100.0)


@pytest.mark.parametrize(
    ("config", "tolerance"), [(FLOAT, 1e-6), (LOSSY, 0.05)], ids=["float", "everything"]
)
def test_a_vocabulary_a_loop_and_a_branch_survive_all_passes(
    config: OptimizeConfig, tolerance: float, word_model: Path, tmp_path: Path
) -> None:
    ran = run_chain(word_model, data_of(WORDS), config, tmp_path / "work")
    assert all(row.is_kept for row in ran.rows), ran.rows
    assert ran.final.is_lossy == (config is LOSSY)
    saved = ran.final.saved
    assert (saved.path / "assets" / "vocabulary.txt").read_text() == "red\ngreen\nblue\n"
    answer = saved.signature(SIGNATURE)(
        word=tf.constant(["blue", "red"]), boost=tf.constant([1.0, 3.0])
    )
    # blue is row 2 of the embedding, red row 0; the loop adds (0 + 1 + 2) * 0.5, the branch doubles
    np.testing.assert_allclose(
        answer["scores"].numpy(), [[15.0, 17.0, 19.0], [3.0, 9.0, 15.0]], rtol=tolerance
    )
    assert answer["word"].numpy().tolist() == [b"BLUE", b"RED"]
    before = load(word_model)
    assert saved.input_specs() == before.input_specs()
    outputs = saved.signature(SIGNATURE).structured_outputs  # type: ignore[attr-defined]
    assert outputs["scores"].dtype == tf.float32
    assert outputs["scores"].shape[0] is None


def test_a_plain_keras_export_keeps_its_two_names_and_stores_weights_once(tmp_path: Path) -> None:
    model = random_network(1)
    model.export(tmp_path / "in", verbose=False)
    name = next(iter(load(tmp_path / "in").input_specs()))
    rows = {name: images()[SIGNATURE]["x"]}
    data = data_of({SIGNATURE: rows, "serve": rows})
    ran = run_chain(tmp_path / "in", data, ALL, tmp_path / "work")
    assert {row.name for row in ran.rows if not row.is_kept} == set()
    assert ran.final.is_lossy
    assert set(ran.final.saved.module.signatures) == {SIGNATURE, "serve"}
    assert list(ran.final.model.signatures) == [SIGNATURE]
    answer = next(iter(ran.final.saved.signature("serve")(**{name: rows[name][:3]}).values()))
    np.testing.assert_allclose(answer, model(rows[name][:3], training=False), atol=0.1)
    assert sum(row.operation_changes.get("Mul", 0) for row in ran.rows[1:-1]) != 0


@pytest.mark.parametrize("config", [FLOAT, LOSSY], ids=["float", "everything"])
def test_ragged_and_string_inputs_and_a_ragged_output_survive(
    config: OptimizeConfig, tmp_path: Path
) -> None:
    class Joiner(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(2.0)

        @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.string, 1)])
        def __call__(self, words: tf.RaggedTensor) -> dict[str, Any]:
            lengths = tf.cast(words.row_lengths(), tf.float32)
            return {
                "sentence": tf.strings.reduce_join(words, axis=1, separator=" "),
                "length": self.weight * lengths,
                "upper": tf.ragged.map_flat_values(tf.strings.upper, words),
            }

    module = Joiner()
    tf.saved_model.save(module, str(tmp_path / "in"), {SIGNATURE: module.__call__})
    words = np.empty(3, object)
    words[:] = [np.array(row, object) for row in ([b"a"], [], [b"b", b"c"])]
    data = data_of({SIGNATURE: {"words": words}})
    ran = run_chain(tmp_path / "in", data, config, tmp_path / "work")
    assert all(row.is_kept for row in ran.rows), ran.rows
    call = ran.final.saved.signature(SIGNATURE)
    answer = call(words=tf.constant(["x", "y"]), words_1=tf.constant([0, 0, 2], tf.int64))
    assert answer["sentence"].numpy().tolist() == [b"", b"x y"]
    assert answer["length"].numpy().tolist() == [0.0, 4.0]
    assert answer["upper"].to_list() == [[], [b"X", b"Y"]]


def test_passes_in_any_order_and_without_freezing(word_model: Path, tmp_path: Path) -> None:
    config = settings("grappler", "remove_nodes", "strip_unused_nodes", "fuse")
    ran = run_chain(word_model, data_of(WORDS), config, tmp_path / "work")
    assert all(row.is_kept for row in ran.rows), ran.rows


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
    data = data_of({SIGNATURE: {"x": np.array([1.0, 2.0], np.float32)}})
    ran = run_chain(tmp_path / "in", data, FLOAT, tmp_path / "work")
    assert all(row.is_kept for row in ran.rows), ran.rows
    assert ran.final.model.signatures[SIGNATURE].captures == {}


def test_a_signature_without_inputs_survives(tmp_path: Path) -> None:
    module = tf.Module()
    module.weight = tf.Variable(np.arange(1500, dtype=np.float32).reshape(3, 500))
    spec = tf.TensorSpec([None, 3], tf.float32, "x")
    calls = {SIGNATURE: (lambda x: {"y": x @ module.weight}, spec), "w": (lambda: {"w": "v7"},)}
    signatures = {n: tf.function(c).get_concrete_function(*s) for n, (c, *s) in calls.items()}
    tf.saved_model.save(module, str(tmp_path / "in"), signatures)
    data = data_of({SIGNATURE: {"x": np.eye(3, dtype=np.float32)}, "w": {}})
    ran = run_chain(tmp_path / "in", data, ALL, tmp_path / "work")
    assert all(row.is_kept for row in ran.rows), ran.rows
    assert ran.final.saved.signature("w")()["w"].numpy() == b"v7"


@pytest.mark.parametrize("is_in_a_branch", [False, True])
def test_what_another_signature_writes_to_is_not_frozen(
    is_in_a_branch: bool, tmp_path: Path
) -> None:
    """As models that are trained where they run: `train` beside `serving_default`."""
    module = tf.Module()
    module.weight = tf.Variable(3.0)

    def put(value: tf.Tensor) -> dict[str, tf.Tensor]:
        if is_in_a_branch:
            tf.cond(value[0] > 0.0, lambda: module.weight.assign(value[0]).value(), lambda: 0.0)
        else:
            module.weight.assign(value[0])
        return {"value": value}

    calls = {SIGNATURE: lambda x: {"y": x * module.weight}, "put": put}
    spec = tf.TensorSpec([None], tf.float32)
    signatures = {n: tf.function(c).get_concrete_function(spec) for n, c in calls.items()}
    tf.saved_model.save(module, str(tmp_path / "in"), signatures)
    one = np.array([1.0], np.float32)
    data = data_of({SIGNATURE: {"x": one}, "put": {"value": 3.0 * one}})
    ran = run_chain(tmp_path / "in", data, FLOAT, tmp_path / "work")
    assert (
        "signatures write to variables that answers depend on: Variable"
        in ran.row("freeze_graph").reason
    )
    saved = ran.final.saved
    saved.signature("put")(value=tf.constant([7.0]))
    assert saved.signature(SIGNATURE)(x=tf.constant([2.0]))["y"].numpy().tolist() == [14.0]
    with pytest.raises(DataError, match="only TensorFlow has variables"):
        Core.of(saved.path, data.samples[SIGNATURE], tmp_path)


def test_a_function_that_looks_words_up_is_inlined_and_its_layers_quantised(
    tmp_path: Path,
) -> None:
    """As tf.Transform's graphs are: pruned, with tables, without control outputs."""
    words, kind = tmp_path / "words.txt", tf.lookup.TextFileIndex
    words.write_text("red\ngreen\nblue\n")
    module = tf.Module()
    module.embedding = tf.Variable(np.random.default_rng(0).normal(size=(3, 512)).astype("f4"))

    def build(word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        initializer = tf.lookup.TextFileInitializer(
            str(words), tf.string, kind.WHOLE_LINE, tf.int64, kind.LINE_NUMBER
        )
        module.table = tf.lookup.StaticHashTable(initializer, 0)
        return module.table.lookup(word), module.table.lookup(tf.strings.upper(word))

    spec = tf.TensorSpec([None], tf.string, "word")
    wrapped = tf.compat.v1.wrap_function(build, [spec])
    ids = wrapped.prune([wrapped.inputs[0]], list(wrapped.outputs))

    def call(word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(module.embedding, ids(word)[0])}

    traced = tf.function(call, autograph=False).get_concrete_function(spec)
    tf.saved_model.save(module, str(tmp_path / "in"), {SIGNATURE: traced})
    assert not _functions(GraphModel.lift(tmp_path / "in"))
    rows = {"word": np.array([b"blue", b"red", b"none"], object)}
    ran = run_chain(tmp_path / "in", data_of({SIGNATURE: rows}), ALL, tmp_path / "work")
    assert not [row.reason for row in ran.rows if "undone" in row.reason]
    assert ran.final.is_lossy
    answer = ran.final.saved.signature(SIGNATURE)(word=tf.constant([b"blue"]))["y"]
    np.testing.assert_allclose(answer, module.embedding[2:3], atol=0.02)


def test_a_function_that_must_not_be_inlined_is_called_by_every_graph(tmp_path: Path) -> None:
    inner = tf.function(tf.nn.relu, autograph=False, experimental_attributes={"_noinline": True})
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype("f4")
    spec = tf.TensorSpec([None, 64], tf.float32, "x")
    path = save_function(tmp_path / "in", lambda x: {"y": inner(x @ weight)}, spec)
    assert _functions(GraphModel.lift(path))
    rows = np.random.default_rng(1).normal(size=(9, 64)).astype("f4")
    ran = run_chain(path, data_of({SIGNATURE: {"x": rows}}), ALL, tmp_path / "work")
    assert not [row.reason for row in ran.rows if "undone" in row.reason]
    assert ran.final.is_lossy


def _functions(model: GraphModel) -> list[str]:
    library = model.signatures[SIGNATURE].graph_def.library
    return [function.signature.name for function in library.function]


def test_the_whole_writes_model_ledger_and_pictures_and_leaves_the_source(
    network: Path, tmp_path: Path
) -> None:
    before = digest_directory(network)
    passes = ("freeze_graph", "fold_constants", "quantize_nodes", "freeze_requantization_ranges")
    config = settings(*passes, min_gain_ratio=0.0)
    optimized = optimize(network, data_of(images()), config, tmp_path / "out")
    record = optimized.record
    assert digest_directory(network) == before
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model", "float_model"}
    record.write(tmp_path / "ledger.json")
    assert OptimizeRecord.read(tmp_path / "ledger.json") == record
    first, last = record.ledger[0], record.ledger[-1]
    assert (first.name, last.name) == ("original", "whole")
    for row in record.ledger:
        assert row.cold_start_seconds and row.cold_start_seconds > 0
        assert row.peak_memory_bytes and row.peak_memory_bytes > 0
    assert last.size_bytes < first.size_bytes
    assert [one.tensor for one in record.calibration] == [one.tensor for one in optimized.observed]
    names = [name for name, figure in pictures_of(optimized) if figure.axes]
    assert names == ["ledger.png", "graph_before.png", "graph_after.png", "calibration.png"]


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


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (scaled_constants, "undone: outputs differ by .* relative, at most 1e-05 is allowed"),
        (renamed_output, "undone: a signature changed"),
        (raising, "undone: RuntimeError: no pass for 1 signature"),
    ],
)
def test_a_pass_that_breaks_something_is_undone_and_named_and_the_chain_goes_on(
    broken: Callable[[GraphModel], Change],
    reason: str,
    network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = {**registry.FLOAT_PASSES, "fold_constants": broken}
    monkeypatch.setattr("components.optimize.chain.FLOAT_PASSES", passes)
    config = settings("freeze_graph", "fold_constants", "remove_nodes")
    ran = run_chain(network, data_of(images()), config, tmp_path / "work")
    assert [row.name for row in ran.rows if not row.is_kept] == ["fold_constants"]
    assert re.match(reason, ran.row("fold_constants").reason)
    row = ran.row("remove_nodes")
    assert row.max_relative_difference <= 1e-5
    assert row.agreement_ratio == 1.0


def test_if_nothing_is_kept_the_original_goes_on(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.optimize.chain.FLOAT_PASSES", {"freeze_graph": raising})
    config = settings("freeze_graph")
    ran = run_chain(network, data_of(images()), config, tmp_path / "work")
    assert ran.final.saved.path == network
    assert ran.rows[-1].reason == "no pass was kept: the original is used unchanged"


# --- the budget ---------------------------------------------------------------------------------

QUANTIZE = (
    "freeze_graph",
    "quantize_nodes",
    {"freeze_requantization_ranges": {"method": "minmax"}},
)


def test_int8_that_costs_points_is_caught_and_rescued_by_a_float_layer(tmp_path: Path) -> None:
    source, data = outlier_model(tmp_path / "in")
    config = settings(*QUANTIZE, min_gain_ratio=0.0)
    ran = run_chain(source, data, config, tmp_path / "work")
    row, before = ran.row("quantize_nodes"), ran.rows[0].metric
    assert row.is_kept
    assert len(row.float_layers) == 1
    assert "over budget at first, so 1 of 2 layers" in row.reason
    assert before is not None and row.metric is not None and row.metric_difference is not None
    assert row.metric >= before - 0.01
    frozen = ran.chain.states[1].model
    whole = quantize_nodes.apply(frozen).model.signatures[SIGNATURE].concrete()
    scores = whole(x=tf.constant(data.evaluation.inputs["x"]))["scores"].numpy()
    labels = data.evaluation.truths[0].labels
    assert np.mean(scores.argmax(1) == labels) <= before - 0.05  # without the float layer
    difference = row.metric_difference
    assert difference.low <= row.metric - before <= difference.high
    assert ran.final.is_lossy


def test_a_lossy_pass_that_no_float_layer_rescues_is_refused_and_the_float_model_goes_on(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(400, 11)), rng.normal(size=(11, CLASSES))
    labels = (x @ weight).argmax(1)  # two values a weight cannot say the same
    constant = tf.constant(weight, tf.float32)
    source, data = labelled(
        tmp_path / "in", lambda x: {"scores": tf.nn.softmax(x @ constant)}, labels, x
    )
    config = settings("freeze_graph", {"round_weights": {"num_steps": 2, "minimum_size": 2}})
    ran = run_chain(source, data, config, tmp_path / "work")
    row = ran.row("round_weights")
    assert not row.is_kept
    assert "undone: costs" in row.reason
    assert row.metric is not None and row.metric < 0.95
    assert "the float model is used" in ran.rows[-1].reason
    assert not ran.final.is_lossy


def test_int8_within_its_budget_is_left_out_if_it_saves_nothing(
    network: Path, tmp_path: Path
) -> None:
    config = settings("freeze_graph", "fold_constants", "remove_nodes", "quantize_nodes")
    ran = run_chain(network, data_of(images()), config, tmp_path / "work")
    row = ran.row("quantize_nodes")
    assert not row.is_kept
    assert "left out in the end" in row.reason
    assert "must save 10% of one of them" in row.reason
    assert not ran.final.is_lossy


# --- bad input ----------------------------------------------------------------------------------


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a SavedModel: saved_model\.pb is missing"):
        run_chain(tmp_path, data_of(images()), ALL, tmp_path / "work")


def test_a_broken_saved_model_is_refused(network: Path, tmp_path: Path) -> None:
    (network / "saved_model.pb").write_bytes(b"\x00not a protobuf")
    with pytest.raises(DataError, match="a SavedModel that cannot be loaded"):
        run_chain(network, data_of(images()), ALL, tmp_path / "work")


def test_a_saved_model_with_an_unknown_operation_is_refused(network: Path, tmp_path: Path) -> None:
    content = (network / "saved_model.pb").read_bytes()
    (network / "saved_model.pb").write_bytes(content.replace(b"Softmax", b"Sofdmax"))
    with pytest.raises(DataError, match="Sofdmax"):
        run_chain(network, data_of(images()), ALL, tmp_path / "work")


def test_a_saved_model_without_signatures_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(DataError, match="without signatures"):
        run_chain(tmp_path / "bare", data_of(images()), ALL, tmp_path / "work")


def test_rows_of_the_wrong_shape_are_refused(network: Path, tmp_path: Path) -> None:
    wrong: Samples = {SIGNATURE: {"x": np.zeros((3, 7, 7, 3), np.float32)}}
    with pytest.raises(DataError, match="the rows given do not fit"):
        run_chain(network, data_of(wrong), ALL, tmp_path / "work")


def test_no_rows_are_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows to compare signature 'serving_default' on"):
        run_chain(network, data_of(images(0)), ALL, tmp_path / "work")
