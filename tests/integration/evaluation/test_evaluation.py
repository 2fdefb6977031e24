"""The evaluator on checkpoints of known worth: verdicts, helpers, retries, and broken things."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from components.evaluate.evaluate import evaluate
from components.evaluate.queue import Holder, Queue, Terms
from components.models import checkpoints
from components.quality.verdicts import read_verdicts
from components.runs.step import help_step
from contract.command import StepCommand
from contract.errors import ConfigError, ConflictError, DataError, ServiceUnavailableError
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Result
from contract.records.training import CheckpointManifest
from contract.stores import FolderStore

LABEL = "label:kind"
RIGHT, WRONG, BLIND = (9.0, 0.0), (-9.0, 0.0), (0.0, 9.0)


def test_a_verdict_is_what_the_weights_are_worth_by_hand(make_run):
    made = make_run()
    for step, weights in ((10, WRONG), (20, RIGHT), (30, BLIND)):
        made.publish(step, weights)
    made.end()
    record, reasons = made.evaluate()
    verdicts = {verdict.step: verdict for verdict in read_verdicts(made.run)}
    assert record.steps == (10, 20, 30)
    assert record.best_step == 20
    assert reasons == ()
    values = {step: v.metrics["kind"]["accuracy"].value for step, v in verdicts.items()}
    assert (values[10], values[20]) == (0.0, 1.0)
    assert 0.3 < values[30] < 0.7
    curves = verdicts[20].curves["kind"]
    assert np.trace(np.array(curves.confusion)) == 100
    assert set(verdicts[20].slices) == {"colour=blue", "colour=red"}
    for verdict in verdicts.values():
        manifest = made.run.checkpoint_manifest(verdict.step)
        assert verdict.judged_by == "0.1"
        assert verdict.checkpoint.startswith("sha256:")
        assert 0 <= verdict.judge_seconds <= verdict.lag_seconds + 1e-6
        assert CheckpointManifest.read(manifest).written_at <= verdict.judged_at


WORKER_1 = """{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]},
"task": {"type": "worker", "index": 1}}"""


def test_processes_share_the_work_and_one_result(make_run):
    """One is started as a helper by hand, one by a launcher that gives roles."""
    made = make_run()
    processes = [made.start(), made.start(replica=1), made.start(role=WORKER_1)]
    step, until = 0, time.monotonic() + 400
    while len({v.judged_by for v in read_verdicts(made.run)}) < 3 and time.monotonic() < until:
        if len(read_verdicts(made.run)) > step - 5:  # all have something to choose from
            step += 1
            made.publish(step, RIGHT)
        time.sleep(0.02)
    made.end()
    codes = [process.wait(timeout=120) for process in processes]
    assert codes == [0, 0, 0], made.said
    record = Result.read(made.run.result("evaluate")).detail_as(EvaluateRecord)
    assert record.steps == tuple(range(1, step + 1))
    assert {v.judged_by for v in read_verdicts(made.run)} == {"0.1", "1.1", "2.1"}
    assert "replica 1: done" in made.said


@pytest.mark.thorough
def test_evaluators_are_started_and_replaced_one_by_one(make_run):
    made = make_run({"evaluate.evaluators": 2, "evaluate.lease_seconds": 3.0})
    job, step = made.start_job(), 0

    def judge_until(*judges: str) -> None:
        nonlocal step
        until = time.monotonic() + 200
        while not {v.judged_by for v in read_verdicts(made.run)} >= set(judges):
            assert time.monotonic() < until, made.said
            if len(read_verdicts(made.run)) > step - 4:
                step += 1
                made.publish(step, RIGHT)
            time.sleep(0.02)

    judge_until("0.1", "1.1")
    for killed, (name, next_of_it) in enumerate([("1", "1.2"), ("0", "0.2")], 1):
        pids = [int(pid) for pid in children_of(job.pid)]
        os.kill(next(pid for pid in pids if evaluator_index(pid) == name), signal.SIGKILL)
        judge_until(next_of_it)
        assert made.said.count("SIGKILL") == killed
    made.end()
    assert job.wait(timeout=120) == 0, made.said
    record = Result.read(made.run.result("evaluate")).detail_as(EvaluateRecord)
    assert record.steps == tuple(range(1, step + 1))


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def evaluator_index(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    role = next(v.partition("=")[2] for v in environment if v.startswith("TF_CONFIG="))
    return str(json.loads(role)["task"]["index"])


def test_of_two_jobs_for_one_run_the_earlier_stops_and_says_so(make_run):
    made = make_run()
    made.publish(1, RIGHT)
    earlier, later = made.evaluation(), made.evaluation()
    with pytest.raises(ConflictError, match="attempt 1 of evaluate was overtaken by attempt 2"):
        evaluate(earlier)
    made.end()
    assert evaluate(later)[0].steps == (1,)


def test_the_lease_of_a_dead_process_is_taken_over(make_run):
    """By its own next attempt at once, by others after `lease_seconds` without a sign of life."""
    made = make_run(overrides={"evaluate.lease_seconds": 0.4})
    store = FolderStore(made.run.evaluation_queue)
    for step, dead in ((1, Holder(0, 1)), (2, Holder(7, 1))):
        made.publish(step, RIGHT)
        queue = Queue(made.run, store, Terms(dead, lease_seconds=1.0))
        queue.beat()
        assert queue.claim(step, 1)
    made.evaluation()  # attempt 1, which is dead
    made.end()
    started = time.monotonic()
    assert made.evaluate()[0].steps == (1, 2)
    assert time.monotonic() - started > 0.4
    assert store.names("leases/000000002") == {"1", "2"}


def test_a_broken_checkpoint_is_named_once_and_judged_when_published_anew(make_run, caplog):
    made = make_run(overrides={"evaluate.timeout_seconds": 0.6})
    made.publish(1, RIGHT)
    made.publish(2, RIGHT)
    weights = made.run.checkpoint(2) / checkpoints.WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0xFF
    weights.write_bytes(content)
    with pytest.raises(ServiceUnavailableError, match="no checkpoint and no end of training"):
        made.evaluate()
    assert caplog.text.count("000000002/weights.npz: corrupt") == 1
    made.end()
    assert made.evaluate() == (made.evaluate()[0], ("checkpoint 2 is broken, not judged",))
    shutil.rmtree(made.run.checkpoint(2))
    made.publish(2, BLIND)
    record, reasons = made.evaluate()
    assert (record.steps, reasons) == ((1, 2), ())


def test_a_half_written_checkpoint_is_not_judged(make_run):
    made = make_run()
    made.publish(1, RIGHT)
    made.publish(2, RIGHT)
    made.run.checkpoint_manifest(2).unlink()
    made.run.checkpoint(3).mkdir()
    made.run.checkpoint_manifest(3).write_text('{"step": 3, "fil')
    made.end()
    assert made.evaluate()[0].steps == (1,)


# --- an eval split that cannot judge -------------------------------------------------------------


def test_an_eval_part_without_labels_is_refused_by_shard_example_and_head(make_run, some_rows):
    made = make_run(rows=[*some_rows[:6], without_label(some_rows[6]), *some_rows[7:]])
    expected = f"{made.shard}: example 7 has no label of head 'kind' .*run 'ingest' again"
    with pytest.raises(DataError, match=expected):
        made.evaluate()


def without_label(row):
    return {name: value for name, value in row.items() if name != LABEL}


def test_labels_of_no_class_are_refused(make_run, some_rows):
    made = make_run(rows=[some_rows[0] | {LABEL: -1}, *some_rows[1:]])
    expected = r"head 'kind': 1 of 100 labels are invalid, the first is -1; .* from 0 to 1"
    with pytest.raises(DataError, match=expected):
        made.evaluate()


@pytest.mark.parametrize("key", ["bless.metric", "evaluate.early_stop.metric"])
def test_a_metric_that_does_not_exist_names_the_nearest(make_run, key):
    made = make_run(overrides={key: "acuracy"})
    with pytest.raises(ConfigError, match=f"{key}: unknown metric 'acuracy'; did you mean 'acc"):
        made.evaluate()


def test_only_evaluate_takes_helpers(make_run):
    made = make_run()
    command = StepCommand("train", "tiny", made.run.run_id, str(made.run.root), replica=1)
    with pytest.raises(ConfigError, match="'train' takes no helpers"):
        help_step(command, lambda _: pytest.fail("it was started"))
