"""A new kind of source takes two files: its section and its reader."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from contract.places import CODE_FOLDER

SECTION = '''
class LinesSource(SourceSection, data_state=files_state):
    """Text files of two numbers a line."""

    kind: Literal["lines"]
    places: Annotated[tuple[str, ...], SourcePath]


Source = Annotated[
    LinesSource | '''

READER = '''
"""Text files of two numbers a line."""

import numpy as np
import pyarrow as pa

from components.ingest.sources.source import find_files
from components.data.raw_rows import SourceRows


def files(source):
    return find_files(source.places)


def columns(source, file):
    return ("size", "price")


def read(source, file):
    rows = [line.split() for line in file.read_text().splitlines()]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, ["size", "price"])
    yield SourceRows(str(file), np.arange(1, len(rows) + 1), batch)


def size_bytes(source, file):
    return file.stat().st_size
'''

PIPELINE = """
name: shoes
features: {size: {dtype: float32}}
heads: {price: {task: regression}}
ingest: {source: {kind: lines, places: [data/numbers-*.txt]}}
"""

RUNS = """
import json, os, sys
from pathlib import Path
from cli.checks.preflight import check_sources
from components.ingest.sources import module_of
from components.ingest.units import plan_units
from contract.loader import load_pipeline
from test_start import Ground, STEPS

home = Path(sys.argv[1])
ground = Ground(home)
os.environ["SLIPWAY_PIPELINES"] = str(ground.folder.parent)
(ground.folder / "pipeline.yaml").write_text(sys.argv[2])
data = ground.folder / "data" / "numbers-1.txt"  # `data` is not part of the frozen code
data.parent.mkdir()
data.write_text("1 2\\n3 4\\n")
config = load_pipeline(ground.folder)
(unit,), columns = plan_units(config, ())
(rows,) = module_of(unit.source).read(unit.source, unit.files[0])


def start(run):
    skipped = ground.start(run, "scheduled")
    if not skipped:
        ground.judge(run)
    return "skipped" if skipped == list(STEPS) else "started"


starts = [start("first"), start("the same")]
data.write_text(data.read_text() + "5 6\\n")
starts += [start("grown"), start("the same again")]
data.with_name("numbers-2.txt").write_text("7 8\\n")
starts += [start("one file more"), start("the same at last")]
print(json.dumps({
    "check": [f.state for f in check_sources(config)],
    "columns": columns,
    "sizes": rows.columns.column("size").to_pylist(),
    "starts": starts,
}))
"""


def test_a_source_of_two_new_files_is_checked_and_read_and_its_new_data_start_a_run(
    tmp_path: Path,
) -> None:
    for package in ("cli", "components", "configs", "contract", "launching", "operators"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CODE_FOLDER / package, tmp_path / package, ignore=ignored)
    schema = tmp_path / "contract" / "schema" / "data.py"
    before = schema.read_text()
    schema.write_text(before.replace("\nSource = Annotated[\n    ", SECTION, 1))
    assert schema.read_text() != before
    (tmp_path / "components" / "ingest" / "sources" / "lines.py").write_text(READER.lstrip())

    home = tmp_path / "home"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "AIRFLOW_HOME": str(home / "airflow")}
    command = [sys.executable, "-c", RUNS, str(home), PIPELINE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "check": ["ok", "ok"],
        "columns": ["size", "price"],
        "sizes": ["1", "3"],
        "starts": ["started", "skipped", "started", "skipped", "started", "skipped"],
    }
