"""CPU seconds until a process has what it computes with: `python tests/benchmarks/bench_start.py`.

A component's TensorFlow and Keras, and a model server's TensorFlow. The peer imports the same as it
comes; the limit is TensorFlow without Keras. And what our processes import, with the heap in huge
pages and with Python's own allocator, the peer. Medians of five.
"""

import os
import statistics
import subprocess
import sys

from support import ROOT, emit

from launching.environment import huge_pages

PLAIN = "import tensorflow, keras"
COMPONENT = f"import components; {PLAIN}"
SERVER = "from serving.server.engines.tensorflow_engine import tensorflow_without_keras as t; t()"
LIMIT = "import sys; sys.modules['keras'] = None; import tensorflow"
IMPORTED = ("airflow.models", "apache_beam", "mlflow", "tensorflow, keras")
HUGE_PAGES = huge_pages({})
ROUNDS = 5


def cpu_seconds(code: str, has_huge_pages: bool = True) -> float:
    """Return what a fresh process has used after running some code."""
    asked = f"import time\n{code}\nprint(time.process_time())"
    command = [sys.executable, "-c", asked]
    environment = {k: v for k, v in os.environ.items() if k not in HUGE_PAGES}
    environment |= HUGE_PAGES if has_huge_pages else {}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure_huge_pages() -> None:
    for modules in IMPORTED:
        ours, plain = [], []
        for _ in range(ROUNDS):
            ours.append(cpu_seconds(f"import {modules}"))
            plain.append(cpu_seconds(f"import {modules}", has_huge_pages=False))
        name = f"huge_pages_importing_{modules.partition(',')[0].replace('.', '_')}"
        emit(name, statistics.median(ours), statistics.median(plain), None, "CPU-s")


def main() -> None:
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for code in (PLAIN, COMPONENT, SERVER, LIMIT):
            found.setdefault(code, []).append(cpu_seconds(code))
    median = {code: statistics.median(seconds) for code, seconds in found.items()}
    for name, code in (("component", COMPONENT), ("server", SERVER)):
        emit(f"start_of_a_{name}", median[code], median[PLAIN], median[LIMIT], "CPU-s")
    measure_huge_pages()


if __name__ == "__main__":
    main()
