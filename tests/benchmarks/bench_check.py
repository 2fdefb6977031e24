"""What `slipway check digits` costs: `python tests/benchmarks/bench_check.py`.

CPU seconds and peak memory of the command with its child processes. The limit is the goal; beside
it stands what a process costs that imports TensorFlow as it comes and does nothing else. Medians of
five.
"""

import statistics
import sys
import tempfile

from support import Cost, cost_of, emit

CHECK = [sys.executable, "-m", "cli.main", "check", "digits"]
TENSORFLOW = [sys.executable, "-c", "import tensorflow, keras"]
GOAL_CPU_SECONDS = 3.0
ROUNDS = 5


def main() -> None:
    found: dict[str, list[Cost]] = {"check": [], "tensorflow": []}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(ROUNDS):
            found["check"].append(cost_of(CHECK, {"SLIPWAY_HOME": home}))
            found["tensorflow"].append(cost_of(TENSORFLOW, {}))
    seconds = {name: statistics.median(c.cpu_seconds for c in cs) for name, cs in found.items()}
    emit(
        "check_of_a_pipeline",
        seconds["check"],
        None,
        GOAL_CPU_SECONDS,
        "CPU-s",
        wall_seconds=statistics.median(cost.seconds for cost in found["check"]),
        peak_mib=statistics.median(cost.peak_mib for cost in found["check"]),
        tensorflow_cpu_seconds=seconds["tensorflow"],
    )


if __name__ == "__main__":
    main()
