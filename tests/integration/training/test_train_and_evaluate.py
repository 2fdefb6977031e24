"""Training and evaluation: ended well, killed and resumed, and fed broken things."""

import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components.models import checkpoints
from components.quality.verdicts import read_verdicts
from contract.errors import (
    ConfigError,
    ConflictError,
    DataError,
    DiskFullError,
    ServiceUnavailableError,
    UserCodeError,
    UserError,
)
from contract.free_ports import free_ports
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Result
from contract.records.training import TrainingEnded, TrainRecord
from contract.storage import Attempt

SLOW_MODEL = """
import pathlib
import time
import keras

class Slow(keras.callbacks.Callback):
    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def on_train_batch_end(self, batch, logs=None):
        pathlib.Path(self.marker).touch()
        time.sleep(0.05)

def build_model(features, hyperparameters):
    hidden = keras.layers.Dense(8, activation="relu")(features["x"])
    hidden = keras.layers.Dropout(0.2)(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))

def callbacks(hyperparameters, steps):
    return [Slow(hyperparameters.get("marker", "/dev/null"))]
"""

BREAKING_MODEL = """
import keras

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(features["x"]))

class RateThatBreaks(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return keras.ops.where(step <= {last_good}, 0.01, float("{rate}"))

def optimizer(hyperparameters, steps):
    return keras.optimizers.SGD(RateThatBreaks())
"""


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


# --- the good way -------------------------------------------------------------------------------


def test_train_publishes_every_tenth_step_and_evaluate_judges_each(make_run):
    made = make_run()
    record = made.train()
    assert record.last_step == 40
    assert record.checkpoints == (10, 20, 30, 40)
    assert record.parameters == 4 * 8 + 8 + 8 * 3 + 3
    ended = TrainingEnded.read(made.run.training_ended)
    assert ended.has_succeeded
    assert ended.last_step == 40

    record, reasons = made.evaluate()
    verdicts = read_verdicts(made.run)
    assert record.steps == (10, 20, 30, 40) == tuple(verdict.step for verdict in verdicts)
    assert reasons == ()
    assert {verdict.examples for verdict in verdicts} == {60}
    assert set(verdicts[0].slices) == {"colour=blue", "colour=red"}
    shares = {v.step: v.metrics["kind"]["accuracy"].value for v in verdicts}
    assert shares[record.best_step] == max(shares.values())
    assert max(shares.values()) > 0.7  # three clusters two deviations apart


def test_last_step_is_published_even_off_the_beat(make_run):
    made = make_run(overrides={"train.steps": 23})
    assert made.train().checkpoints == (10, 20, 23)


def test_verdict_is_what_the_model_says_row_by_row(make_run):
    made = make_run(overrides={"train.steps": 10})
    made.train()
    made.evaluate()
    first, first_bias, second, second_bias = made.model(10).get_weights()[:4]
    rows = sorted(made.rows("eval"), key=lambda row: row["example_id"])
    x = np.array([row["x"] for row in rows])
    is_red = np.array([row["slice:colour"] == "red" for row in rows])
    said = (np.maximum(x @ first + first_bias, 0) @ second + second_bias).argmax(axis=1)
    is_right = said == [row["label:kind"] for row in rows]
    verdict = read_verdicts(made.run)[0]
    assert verdict.metrics["kind"]["accuracy"].value == pytest.approx(is_right.mean())
    red = verdict.slices["colour=red"]["kind"]["accuracy"].value
    assert red == pytest.approx(is_right[is_red].mean())


# --- killed and resumed -------------------------------------------------------------------------


def test_kill_9_resumes_and_ends_as_if_nothing_had_happened(make_run):
    undisturbed, killed = make_run(model=SLOW_MODEL), make_run(model=SLOW_MODEL)
    undisturbed.train()
    process = killed.start("train")
    killed.wait_for(killed.run.checkpoint_manifest(20).exists, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not killed.run.training_ended.exists()
    resumed_from = killed.published[-1]
    assert 20 <= resumed_from < 40

    process = killed.start("train")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    record = Result.read(killed.run.result("train")).detail_as(TrainRecord)
    assert record.last_step == 40
    assert record.resumed_from_step == resumed_from
    # The same weights to the last digit: no batch came twice or not at all, and optimizer state,
    # dropout masks and step count went on.
    expected = undisturbed.model(40).get_weights()
    for found, wanted in zip(killed.model(40).get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_sigterm_publishes_a_checkpoint_and_asks_for_a_retry(make_run, tmp_path):
    marker = tmp_path / "has_stepped"
    overrides = {"train.checkpoint_every_steps": 1000, "train.hyperparameters.marker": str(marker)}
    made = make_run(model=SLOW_MODEL, overrides=overrides)
    process = made.start("train")
    made.wait_for(marker.exists, process)
    process.terminate()
    output = process.communicate()[0]
    assert process.returncode == 1, output
    assert "SIGTERM after step" in output
    assert not made.run.training_ended.exists()
    assert len(made.published) == 1
    assert made.published[0] < 40


def test_sigterm_ends_a_chief_that_waits_for_its_workers_and_says_for_whom(make_run, monkeypatch):
    made = make_run(overrides={"train.strategy": "multi_worker", "train.workers": 2})
    chief, worker = (f"127.0.0.1:{port}" for port in free_ports(2))
    task = {"type": "chief", "index": 0}
    cluster = {"chief": [chief], "worker": [worker]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    process = made.start("train")
    for line in process.stdout:
        if "waiting for worker-0, for " in line:
            break
    process.terminate()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1, output
    assert "SIGTERM before the first step" in output
    assert "Traceback" not in output


def test_mirrored_publishes_and_resumes_too(make_run):
    made = make_run(overrides={"train.strategy": "mirrored"})
    process = made.start("train")
    assert process.communicate() and process.returncode == 0
    before = made.model(40).get_weights()
    made.run.result("train").unlink()
    made.run.checkpoint_manifest(40).unlink()
    process = made.start("train")
    assert process.communicate() and process.returncode == 0
    assert Result.read(made.run.result("train")).detail_as(TrainRecord).resumed_from_step == 30
    for found, expected in zip(made.model(40).get_weights(), before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_second_train_of_a_done_run_changes_nothing_but_the_record(make_run):
    made = make_run()
    made.train()
    before = made.run.checkpoint_manifest(40).read_bytes()
    assert made.train().resumed_from_step == 40
    assert made.run.checkpoint_manifest(40).read_bytes() == before


def test_corrupt_newest_checkpoint_is_skipped_and_named(make_run, caplog):
    made = make_run()
    made.train()
    newest = made.run.checkpoint(40) / "weights.npz"
    corrupt(newest)
    assert made.train().resumed_from_step == 30
    assert f"{newest}: corrupt" in caplog.text
    assert made.model(40) is not None  # published anew


def test_half_written_checkpoint_is_neither_resumed_nor_judged(make_run):
    made = make_run()
    made.train()
    made.run.checkpoint_manifest(40).unlink()
    assert made.evaluate()[0].steps == (10, 20, 30)
    assert made.train().resumed_from_step == 30


def test_overtaken_attempt_publishes_nothing(make_run):
    made = make_run()
    attempt = Attempt.claim(made.run.attempts("train"))
    Attempt.claim(made.run.attempts("train"))
    with pytest.raises(ConflictError, match="overtaken by attempt 2"):
        made.train_as(attempt)
    assert made.published == []
    assert not made.run.training_ended.exists()


# --- exactly once -------------------------------------------------------------------------------


def test_evaluate_beside_training_judges_each_once_though_it_is_killed(make_run):
    made = make_run(model=SLOW_MODEL)
    trainer, first = made.start("train"), made.start("evaluate")
    made.wait_for(made.run.verdict(10).exists, first)
    first.kill()
    first.wait()
    written = {path: path.read_bytes() for path in made.run.verdict(0).parent.glob("*.json")}
    assert written
    second = made.start("evaluate")
    outputs = trainer.communicate()[0], second.communicate()[0]
    assert (trainer.returncode, second.returncode) == (0, 0), outputs
    record = Result.read(made.run.result("evaluate")).detail_as(EvaluateRecord)
    assert record.steps == (10, 20, 30, 40)
    assert {path: path.read_bytes() for path in written} == written


def test_evaluate_twice_gives_no_second_verdict(make_run):
    made = make_run()
    made.train()
    made.evaluate()
    before = made.run.verdict(20).read_bytes()
    made.evaluate()
    assert made.run.verdict(20).read_bytes() == before


def test_evaluate_skips_a_corrupt_checkpoint_and_says_so(make_run, caplog):
    made = make_run()
    made.train()
    corrupt(made.run.checkpoint(20) / "weights.npz")
    record, reasons = made.evaluate()
    assert record.steps == (10, 30, 40)
    assert reasons == ("checkpoint 20 is broken, not judged",)
    assert caplog.text.count("000000020/weights.npz: corrupt") == 1


def test_evaluate_gives_up_when_nothing_comes(make_run):
    made = make_run(overrides={"evaluate.timeout_seconds": 0.2})
    with pytest.raises(ServiceUnavailableError, match=r"no checkpoint and no end .* in 0\.2 s"):
        made.evaluate()


def test_evaluate_judges_what_a_failed_training_left(make_run):
    made = make_run()
    made.train()
    TrainingEnded(
        has_succeeded=False, last_step=40, reason="out of luck", ended_at=datetime.now(UTC)
    ).write(made.run.training_ended)
    record, reasons = made.evaluate()
    assert record.steps == (10, 20, 30, 40)
    assert reasons == ("training failed; its checkpoints were judged: out of luck",)


def test_evaluate_of_a_training_that_left_nothing_is_a_data_error(make_run):
    made = make_run()
    TrainingEnded(
        has_succeeded=False, last_step=0, reason="no luck", ended_at=datetime.now(UTC)
    ).write(made.run.training_ended)
    with pytest.raises(DataError, match="no checkpoint to recommend: training failed.*no luck"):
        made.evaluate()


def test_unknown_blessing_metric_names_the_nearest(make_run):
    made = make_run(overrides={"bless.metric": "acuracy"})
    with pytest.raises(ConfigError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        made.train()
    with pytest.raises(ConfigError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        made.evaluate()


def test_unjudged_and_best_checkpoints_outlive_the_keep_policy(make_run):
    overrides = {"train.keep_checkpoints": 1, "train.steps": 30}
    made = make_run(overrides=overrides)
    made.train()
    assert made.published == [10, 20, 30]  # none was judged
    record, _ = made.evaluate()
    longer = made.config.train.model_copy(update={"steps": 40})
    made.config = made.config.model_copy(update={"train": longer})
    made.train()
    assert made.published == sorted({record.best_step, 40})


# --- broken input -------------------------------------------------------------------------------


def test_nan_loss_names_the_step_and_keeps_the_last_good_checkpoint(make_run, monkeypatch):
    publish = checkpoints.publish

    def publish_on_a_slow_disk(*arguments):
        time.sleep(1.0)  # the loss is NaN before step 10 is published
        publish(*arguments)

    monkeypatch.setattr(checkpoints, "publish", publish_on_a_slow_disk)
    made = make_run(model=BREAKING_MODEL.format(last_good=12, rate="nan"))
    # Iterations 0..12 learn at 0.01, so the fourteenth step is the first to apply NaN, and the
    # loss of the fifteenth is the first that is NaN.
    with pytest.raises(
        DataError, match=r"loss is nan at step 15; the last good .* step 10\. Lower"
    ):
        made.train()
    assert made.published == [10]
    ended = TrainingEnded.read(made.run.training_ended)
    assert not ended.has_succeeded
    assert ended.last_step == 10
    assert "train.clip_norm" in ended.reason


def test_weights_that_are_not_finite_are_never_published(make_run):
    made = make_run(model=BREAKING_MODEL.format(last_good=8, rate="inf"))
    with pytest.raises(DataError, match="is not finite after step 10"):
        made.train()
    assert made.published == []


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such shard"),
        (lambda path: path.write_bytes(b""), "empty, 0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "truncated"),
        (corrupt, "corrupt"),
        (lambda path: path.write_bytes(b"x,y\n1,2\n"), "corrupt, not whole gzip"),
    ],
)
def test_broken_shard_is_a_data_error_that_names_it(make_run, split, damage, message):
    made = make_run()
    damage(made.shard(split))
    with pytest.raises(DataError, match=f"{made.shard(split)}: {message}"):
        made.train() if split == "train" else made.evaluate()


def test_fewer_examples_than_transform_counted_are_refused(make_run):
    made = make_run()
    made.record = made.record.model_copy(update={"examples": {"train": 300, "eval": 60}})
    with pytest.raises(DataError, match="found 200 examples, expected 300"):
        made.train()


def test_empty_split_is_refused(make_run):
    made = make_run()
    made.record = made.record.model_copy(update={"examples": {"train": 0, "eval": 60}})
    with pytest.raises(DataError, match="split 'train' has no examples; check ingest.split"):
        made.train()


def test_training_ends_when_its_time_is_over(make_run):
    made = make_run(model=SLOW_MODEL, overrides={"train.timeout_seconds": 0.01})
    with pytest.raises(UserError, match=r"of 40 steps when train.timeout_seconds \(0\.01\)"):
        made.train()
    assert len(made.published) == 1


def test_graph_that_fails_in_mid_training_is_the_users_error(make_run):
    model = """
    import keras

    def build_model(features, hyperparameters):
        ids = keras.ops.cast(features["x"] * 1000.0, "int32")
        embedded = keras.layers.Embedding(2, 3)(ids)
        return keras.Model(inputs=features, outputs=keras.ops.sum(embedded, axis=1))
    """
    made = make_run(model=model)
    with pytest.raises(UserCodeError, match="the model failed after step 0: .*not in"):
        made.train()


def test_full_disk_leaves_no_half_checkpoint_and_ends_the_training(make_run, small_disk):
    made, disk = make_run(), small_disk("4k")
    made.run.checkpoints.parent.mkdir(parents=True)
    made.run.checkpoints.symlink_to(disk)
    with pytest.raises(DiskFullError, match="disk full; nothing was published .*Free space"):
        made.train()
    assert list(disk.iterdir()) == []
    assert "disk full" in TrainingEnded.read(made.run.training_ended).reason
