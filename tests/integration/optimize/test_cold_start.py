"""Cold starts are measured in a fork of the process that optimises, as long as that is possible."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from components.optimize.judging.cold_start import Bench
model, is_used = Path(sys.argv[1]), sys.argv[2] == "used"
if is_used:
    tf.constant(1.0) + 1.0
rows = {"x": np.zeros((40, 8, 8, 3), np.float32)}
with Bench() as bench:
    kind = type(bench.process).__name__
    tf.constant(1.0) + 1.0
    found = bench.measure([model, model / "nothing", model], sys.argv[3], rows)
print(json.dumps([kind, [one and [one.seconds, one.peak_bytes] for one in found]]))
"""


@pytest.mark.parametrize(
    ("used", "kind"), [("fresh", "ForkedBench"), ("used", "FreshBench")], ids=["fork", "fresh"]
)
def test_each_model_starts_cold_and_one_that_is_not_there_has_no_figures(
    used: str, kind: str, network: Path
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(network), used, "serving_default"]
    done = subprocess.run(command, cwd=CODE_FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found_kind, (first, missing, second) = json.loads(done.stdout.splitlines()[-1])
    assert found_kind == kind
    assert missing is None
    for seconds, peak_bytes in (first, second):
        assert 0 < seconds < 60
        assert peak_bytes > 1 << 20
    assert second[1] > first[1] / 2  # the second one does not find the first one's memory
