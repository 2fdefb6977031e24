"""Training looks for evaluation's refusal between its steps."""

from pathlib import Path

import pytest

from components.train.watch.refusal import RefusalWatch
from contract.errors import UserCodeError
from contract.layout import RunLayout
from contract.records.evaluation import ModelRefused


def test_a_refusal_ends_the_training_and_storage_is_looked_at_once_a_second(tmp_path: Path) -> None:
    run, now = RunLayout(tmp_path, "tiny", "run"), [0.0]
    watch = RefusalWatch(run, clock=lambda: now[0])
    watch.check()
    ModelRefused(step=30, reason="model.py: it looks at other rows").write(run.model_refused)
    now[0] = 0.9
    watch.check()
    now[0] = 1.0
    with pytest.raises(
        UserCodeError,
        match=r"^train: ended, because evaluation refused checkpoint 30: model.py: it looks at",
    ):
        watch.check()


def test_what_is_no_whole_record_is_no_refusal(tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "tiny", "run")
    run.model_refused.parent.mkdir(parents=True)
    run.model_refused.write_text('{"step": 3')
    RefusalWatch(run).check()
