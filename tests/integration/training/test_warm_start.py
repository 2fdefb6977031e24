"""`train.start_from: champion`: a training begins with the weights of the version in service."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from served_run import put_into_service

from components.train.learning.learner import Learner, make_learner
from components.train.learning.warm_start import choose_start, load_start, read_start
from contract.layout import RunLayout
from contract.records.package import PackageManifest
from contract.records.traffic import TrafficPlan
from contract.records.training import TrainingStart
from contract.storage import Attempt

WIDER = """
import keras

def build_model(features, hyperparameters):
    hidden = keras.layers.Dense(9, activation="relu")(features["x"])
    hidden = keras.layers.Dropout(0.1)(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""
# A step of Adam moves a weight by the learning rate at most: what it began with can be seen.
WARM = {"train.start_from": "champion", "train.steps": 2, "train.learning_rate": 1e-6}
WARM |= {"train.checkpoint_every_steps": 1}


@pytest.fixture(scope="module")
def champion(module_make_run):
    made = module_make_run(overrides={"train.steps": 10})
    made.train()
    put_into_service(made.run, step=10, version=3)
    return made


@pytest.fixture(scope="module")
def warm(module_make_run, champion):
    made = module_make_run(overrides=WARM)
    made.train()
    return made


@pytest.fixture
def copied(warm, tmp_path) -> RunLayout:
    """The warm run before its training, below a root that a test may spoil."""
    shutil.copytree(warm.run.root, tmp_path / "root")
    run = replace(warm.run, root=tmp_path / "root")
    shutil.rmtree(run.step("train"))
    return run


def weights(run: RunLayout, step: int) -> list[np.ndarray]:
    with np.load(run.checkpoint(step) / "weights.npz") as stored:
        return [stored[name] for name in sorted(stored.files)]


def learner_of(
    module_make_run, model: Mapping[str, str] | None = None, **more: Any
) -> tuple[Learner, RunLayout]:
    made = module_make_run(overrides=WARM | more, **(model or {}))
    strategy = tf.distribute.get_strategy()
    return make_learner(made.config, made.run.frozen_pipeline, made.graph, strategy), made.run


def chosen(learner: Learner, run: RunLayout) -> TrainingStart:
    choose_start(learner, run, Attempt.claim(run.attempts("train")))
    found = read_start("champion", run)
    assert found is not None
    return found


def test_a_training_begins_with_the_blessed_checkpoint_of_the_champion(champion, warm):
    start = TrainingStart.read(warm.run.training_start)
    assert (start.version, start.run_id, start.step) == (3, champion.run.run_id, 10)
    assert start.reason == ""
    for ours, theirs in zip(weights(warm.run, 1), weights(champion.run, 10), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_training_from_scratch_has_no_start_of_another(module_make_run, champion):
    cold = module_make_run(overrides=WARM | {"train.start_from": "scratch", "train.steps": 1})
    assert cold.train().start is None
    pairs = zip(weights(cold.run, 1), weights(champion.run, 10), strict=True)
    assert max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs) > 0.01


def test_a_retry_continues_its_checkpoint_and_still_says_what_it_began_with(warm, copied):
    again = replace(warm, run=copied)
    shutil.copytree(warm.run.step("train"), copied.step("train"))
    copied.checkpoint_manifest(2).unlink()  # as if killed just before it was written
    shutil.rmtree(copied.of_pipeline.version(3))
    record = again.train()
    assert record.resumed_from_step == 1
    assert record.start is not None
    assert record.start.version == 3


def test_a_version_that_repeats_another_has_the_weights_of_that_ones_run(
    module_make_run, champion, copied
):
    layout = copied.of_pipeline
    first = PackageManifest.read(layout.package_manifest(3))
    made = first.provenance.model_copy(update={"run_id": "again", "from_version": 3})
    again = first.model_copy(update={"version": 4, "provenance": made})
    again.write(layout.package_manifest(4))
    plan = TrafficPlan.read(layout.traffic_plan)
    arms = (plan.arms[0].model_copy(update={"version": 4}),)
    plan.model_copy(update={"arms": arms}).write(layout.traffic_plan)
    start = chosen(learner_of(module_make_run)[0], copied)
    assert (start.version, start.run_id) == (4, champion.run.run_id)


def no_champion(run: RunLayout) -> None:
    run.of_pipeline.traffic_plan.unlink()


def no_package(run: RunLayout) -> None:
    shutil.rmtree(run.of_pipeline.version(3))


def no_run(run: RunLayout) -> None:
    shutil.rmtree(run.path)


def imported(run: RunLayout) -> None:
    path = run.of_pipeline.package_manifest(3)
    manifest = PackageManifest.read(path)
    made = manifest.provenance.model_copy(update={"run_id": "import-1"})
    manifest.model_copy(update={"provenance": made}).write(path)


def other_vocabulary(run: RunLayout) -> None:
    folder = run.step("transform") / "graph/transform_fn/assets"
    folder.mkdir(parents=True)
    (folder / "words").write_text("red\nblue\n")


def damaged(run: RunLayout) -> None:
    path = run.checkpoint(10) / "weights.npz"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_champion, "no version is in service"),
        (no_package, "package.json"),
        (no_run, "run0"),
        (imported, "version 3 was imported, without the checkpoint of a training"),
        (other_vocabulary, "has other vocabularies, so that its weights belong to other values"),
        (damaged, "weights.npz: corrupt"),
    ],
)
def test_without_a_usable_champion_it_begins_with_fresh_weights_and_says_why(
    module_make_run, champion, copied, spoil, reason
):
    learner, _ = learner_of(module_make_run)
    spoil(RunLayout(copied.root, copied.pipeline, champion.run.run_id))
    fresh = [np.array(variable) for variable in learner.model.weights]
    start = chosen(learner, copied)
    assert start.version is None
    assert reason in start.reason
    load_start(learner, copied)
    for variable, value in zip(learner.model.weights, fresh, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_champion_of_another_model_is_told_and_not_begun_with(module_make_run, champion):
    start = chosen(*learner_of(module_make_run, {"model": WIDER}))
    assert start.version is None
    assert "version 3 of run 'run0' is another model: found " in start.reason


def test_a_champion_of_other_classes_is_told_and_not_begun_with(module_make_run, champion):
    classes = {"heads.kind.classes": ["c", "b", "a"]}
    start = chosen(*learner_of(module_make_run, None, **classes))
    assert start.version is None
    assert "version 3 of run 'run0' has other classes: heads.kind.classes was a, b, c" in (
        start.reason
    )
