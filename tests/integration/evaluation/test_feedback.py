"""What evaluation tells training, and what a training that broke tells people."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from components.train.watch import divergence
from components.train.watch.divergence import load_batch, look_again
from contract.errors import DataError, NotFoundError
from contract.records.training import Divergence, TrainingEnded

HUGE_ROW = """
import keras

def build_model(features, hyperparameters):
    hidden = keras.layers.Dense(4, name="first")(features["x"])
    hidden = keras.ops.log(1.0 - keras.ops.square(keras.ops.tanh(hidden)))
    return keras.Model(inputs=features, outputs=keras.layers.Dense(1, name="last")(hidden))
"""

NAN_RATE = """
import keras

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(1, name="only")(features["x"]))

class Rate(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return keras.ops.where(step <= 11, 0.01, float("nan"))

def optimizer(hyperparameters, steps):
    return keras.optimizers.SGD(Rate())
"""

NO_LEARNING = {
    "train.steps": 2000,
    "train.checkpoint_every_steps": 10,
    "train.learning_rate": 1e-12,
    "evaluate.early_stop.patience": 3,
}


def test_training_stops_when_its_verdicts_have_ceased_to_get_better(make_run):
    made = make_run(overrides=NO_LEARNING)
    evaluator = threading.Thread(target=made.evaluate, daemon=True)
    evaluator.start()
    record = made.train()
    evaluator.join(60)
    ended = TrainingEnded.read(made.run.training_ended)
    assert ended.has_succeeded
    assert record.last_step < 2000
    assert "checkpoints in a row were not better than that of step 10" in ended.reason


def test_the_step_the_layer_and_the_batch_of_a_nan_are_kept_for_replay(make_run, some_rows):
    rows = [{**row, "x": [1e30, 0.0]} if n == 37 else row for n, row in enumerate(some_rows)]
    overrides = {"train.steps": 25, "train.batch_size": 10, "train.checkpoint_every_steps": 2}
    made = make_run(overrides=overrides, rows=rows, model=HUGE_ROW)
    with pytest.raises(DataError, match="began in step .* of 'log.*' is not finite in 1 rows"):
        made.train()
    found = Divergence.read(made.run.divergence / "divergence.json")
    batch = load_batch(made.run.divergence / "batch.npz")
    assert found.step <= 10  # the row comes up in the first epoch of ten batches
    (row,) = found.rows
    assert batch.features["x"][row].numpy().tolist() == [np.float32(1e30), 0.0]
    seen, culprit = look_again(made.run)
    assert culprit is not None
    assert (seen, culprit.layer, culprit.rows) == (found, found.layer, found.rows)
    command = [sys.executable, "-m", "components.train.watch.divergence", "--pipeline", "tiny"]
    command += ["--run-id", made.run.run_id, "--root", str(made.run.root)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"seen again: the output of '{found.layer}'" in said


def test_looking_again_at_a_run_that_has_not_diverged_says_so(make_run, monkeypatch, caplog):
    made = make_run()
    words = ["--pipeline", "tiny", "--run-id", made.run.run_id, "--root", str(made.run.root)]
    monkeypatch.setattr(sys, "argv", ["divergence", *words])
    with pytest.raises(SystemExit) as ended:
        divergence.main()
    assert ended.value.code == NotFoundError.exit_code
    assert "no batch was kept; this run has not diverged" in caplog.text


def test_an_update_that_breaks_the_weights_is_told_from_a_broken_batch(make_run):
    made = make_run(overrides={"train.steps": 25, "train.batch_size": 10}, model=NAN_RATE)
    expected = r"began in step 13: after the update \(learning rate nan\) the weight of 'only/"
    with pytest.raises(DataError, match=expected):
        made.train()
    _, culprit = look_again(made.run)
    assert culprit is None
