"""What garbage collection costs where rows are many: `python tests/benchmarks/bench_collector.py`.

`ingest`, `validate` and `transform` of the pipeline `census` on made-up rows, one after the other,
as components run; the peer is the same with Python's default thresholds, the limit the same with
the collector off. CPU seconds are medians of the rounds; the peaks of memory are the largest.
`--rows 1000000 --rounds 1` is for the memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from support import ROOT, Cost, cost_of, emit

sys.path.insert(0, str(ROOT))

from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig

COMPONENTS = ("ingest", "validate", "transform")
MODES = {
    "ours": "",
    "peer": "step.collect_rarely = lambda: None",
    "limit": "step.collect_rarely = disable",
}
RUN = """
import runpy
from gc import disable
from components.runs import step
{mode}
runpy.run_module("components.{component}", run_name="__main__", alter_sys=True)
"""
CATEGORIES = 40
SPLIT = {"train": 0.8, "eval": 0.1, "test": 0.1}


def write_rows(config: PipelineConfig, count: int, path: Path) -> None:
    """Write rows whose features are numbers of many values and categories of 40."""
    source = config.ingest.source
    assert isinstance(source, CsvSource)
    random = np.random.default_rng(7)
    columns = []
    for name in source.columns or ():
        feature = config.features.get(name)
        if feature is None:
            classes = np.array(next(iter(config.heads.values())).classes)
            columns.append(random.choice(classes, count))
        elif feature.dtype == "string":
            names = np.array([f"{name}-{number}" for number in range(CATEGORIES)])
            columns.append(random.choice(names, count))
        else:
            columns.append(random.integers(0, int(feature.maximum or 1_000_000), count).astype(str))
    with path.open("w") as file:
        file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))


def run(component: str, mode: str, data: Path, root: Path) -> Cost:
    code = RUN.format(mode=MODES[mode], component=component)
    command = [sys.executable, "-c", code, "--pipeline", "census", "--run-id", "a"]
    command += ["--root", str(root)]
    if component == "ingest":
        settings = {
            "ingest.source.files": [str(data)], "ingest.test_source": None, "ingest.split": SPLIT
        }  # fmt: skip
        command += [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    return cost_of(command, {"CUDA_VISIBLE_DEVICES": "-1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    costs: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        data = Path(folder, "rows.csv")
        write_rows(load_pipeline(find_pipeline("census")), chosen.rows, data)
        for _ in range(chosen.rounds):
            for mode in MODES:
                with tempfile.TemporaryDirectory(dir=folder) as root:
                    for component in COMPONENTS:
                        cost = run(component, mode, data, Path(root))
                        costs.setdefault((component, mode), []).append(cost)
    for component in COMPONENTS:
        cpu, peak = (
            [figure(getattr(cost, name) for cost in costs[component, mode]) for mode in MODES]
            for figure, name in ((statistics.median, "cpu_seconds"), (max, "peak_mib"))
        )
        peaks = {f"{mode}_peak_mib": round(mib) for mode, mib in zip(MODES, peak, strict=True)}
        emit(f"collector_{component}_{chosen.rows}_rows", *cpu, "CPU-s", **peaks)


if __name__ == "__main__":
    main()
