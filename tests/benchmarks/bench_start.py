"""CPU seconds until a process has what it computes with: `python tests/benchmarks/bench_start.py`.

A component's TensorFlow and Keras, and a model server's TensorFlow. The peer imports the same as it
comes; the limit is TensorFlow without Keras. Medians of five.
"""

import statistics
import subprocess
import sys

from support import ROOT, emit

PLAIN = "import tensorflow, keras"
COMPONENT = f"import components; {PLAIN}"
SERVER = "from serving.server.engines.tensorflow_engine import tensorflow_without_keras as t; t()"
LIMIT = "import sys; sys.modules['keras'] = None; import tensorflow"
ROUNDS = 5


def cpu_seconds(code: str) -> float:
    """Return what a fresh process has used after running some code."""
    asked = f"import time\n{code}\nprint(time.process_time())"
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for code in (PLAIN, COMPONENT, SERVER, LIMIT):
            found.setdefault(code, []).append(cpu_seconds(code))
    median = {code: statistics.median(seconds) for code, seconds in found.items()}
    for name, code in (("component", COMPONENT), ("server", SERVER)):
        emit(f"start_of_a_{name}", median[code], median[PLAIN], median[LIMIT], "CPU-s")


if __name__ == "__main__":
    main()
