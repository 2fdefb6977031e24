"""Packaging as the process that it is: a version is kept only when everything passed."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import psutil
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import warm

from components.data.raw_examples import read_raw
from components.models.checkpoints import load_weights
from components.models.saved_models import export, wire_inputs
from components.models.score import Scoring, score
from components.models.user_model import build_model
from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, make
from contract.errors import DataError, UserError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.places import CODE_FOLDER
from contract.records.data import IngestRecord, TransformRecord
from contract.records.evaluation import BlessRecord
from contract.records.optimization import EngineFiles, OptimizeRecord
from contract.records.package import PackageManifest, PackageRecord
from contract.records.record import Result
from contract.storage import digest_directory
from serving.server.core.spans import NAMES


def versions(run: RunLayout) -> list[str]:
    """Return all that lies in the folder of versions, hidden or not, but the number tokens."""
    folder = run.of_pipeline.versions
    return (
        sorted(p.name for p in folder.iterdir() if p.name != ".numbers") if folder.exists() else []
    )


def servers_of(run: RunLayout) -> list[psutil.Process]:
    """Return the model servers that were started below a run's root."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])  # of a fork they are one already
        if " serving.server " in words and str(run.root) in words:
            found.append(process)
    return found


def test_the_steps_of_these_tests_are_forks(component: Any, tmp_path: Path) -> None:
    """Else each of them would import TensorFlow again, and nobody would notice."""
    code = "from launching.processes.python_command import is_forked; print(is_forked())"
    command = [sys.executable, "-c", code]
    lock, variables = tmp_path / "lock", warm.environment_of()
    assert warm.run(component.warm_parent, command, lock, variables) == (0, "True")


FORKS = """
import subprocess, sys
import tensorflow, tensorflow_transform
from contract.programs import warm_command
command = [*warm_command("x")[:-2], "-c", sys.argv[1]]
sys.exit(subprocess.run(command).returncode)
"""


def test_what_a_step_starts_is_a_fork_of_the_same_parent(component: Any, tmp_path: Path) -> None:
    """Also after the step's libraries have set variables. No lock of it is left."""
    code = "from launching.processes.python_command import is_forked; print(is_forked())"
    command = [sys.executable, "-c", FORKS, code]
    lock, variables = tmp_path / "lock", warm.environment_of()
    locks = component.warm_parent.parent / "programs"
    of_others = {*locks.glob("*")}  # of what earlier tests have killed
    until = time.monotonic() + 120
    while (said := warm.run(component.warm_parent, command, lock, variables)) != (0, "True"):
        assert time.monotonic() < until, said  # the parent may still be importing
    assert {*locks.glob("*")} <= of_others


def test_a_package_is_kept_after_skew_check_and_load_test(
    own_run: RunLayout, component: Any
) -> None:
    code, said = component(own_run, "package")
    assert code == 0, said
    record = Result.read(own_run.result("package")).detail_as(PackageRecord)
    assert (record.version, versions(own_run)) == (1, ["1"])
    assert record.skew_skipped_because == ""
    engine = PackageManifest.read(own_run.of_pipeline.version(1) / "package.json").engine
    # an engine in int8 may be further off in a few rows; which one is chosen depends on its speed
    assert record.max_skew >= 0.0
    assert record.max_skew <= record.skew_tolerance or engine.exempt_ratio > 0
    assert record.load.requests > 0 == record.load.errors
    assert list(record.load.spans_ms) == list(NAMES)
    assert 0 < sum(record.load.spans_ms.values()) < record.load.p99_ms
    assert record.callers is not None
    assert record.callers.signatures == ("serving_default", "serving_examples")
    assert record.callers.rows == 26  # 2, and 7 of each number, 5 of the text, 5 of the list
    assert record.callers.left_out == {}
    # The model knows unseen colours, no stamps and any text; numbers may be too large for it.
    assert {one.feature for one in record.callers.unanswered} <= {"weight_kg", "picture"}
    folder = own_run.of_pipeline.version(1)
    manifest = PackageManifest.read(folder / "package.json")
    assert manifest.digest == digest_directory(folder / "model") == record.digest
    optimized = Result.read(own_run.result("optimize")).detail_as(OptimizeRecord)
    assert manifest.engine.name == optimized.engine.name  # the choice goes along, with its table
    assert manifest.engine.measured == optimized.engine.measured
    if manifest.engine.path:
        assert manifest.engine.digest == digest_directory(folder / manifest.engine.path)
    assert manifest.inputs["stamps"].is_variable_length
    assert manifest.inputs["colour"].default == "grey"
    assert manifest.provenance.run_id == "trained"
    assert len((folder / manifest.examples).read_text().splitlines()) == 64
    assert json.loads((folder / "loadtest.json").read_text())["requests"] == record.load.requests
    statement = json.loads((folder / "provenance.intoto.json").read_text())
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    graph = (folder / manifest.model / "saved_model.pb").read_bytes()
    assert subjects[f"{manifest.model}/saved_model.pb"] == hashlib.sha256(graph).hexdigest()
    purls = [
        one["purl"] for one in json.loads((folder / "sbom.cdx.json").read_text())["components"]
    ]
    assert any(purl.startswith("pkg:pypi/tensorflow@") for purl in purls)
    assert servers_of(own_run) == []

    # A retry (its result lost) finds its own package again, under the same number, and as a fresh
    # process it comes to the same: digest, engine, skew to the last bit, answers to callers.
    own_run.result("package").unlink()
    retry = component.start(own_run, "package")
    said = retry.communicate(timeout=300)[0]
    assert retry.returncode == 0, said
    assert versions(own_run) == ["1"]
    fresh = Result.read(own_run.result("package")).detail_as(PackageRecord)
    assert fresh.model_copy(update={"load": record.load}) == record

    # The same once more as a new version, failing one request in ten.
    again = own_run.of_pipeline.run("again")
    code, said = component(again, "package", redeploy=1, serve__fault_ratio=0.1)
    assert code == 0, said
    repeated = PackageManifest.read(own_run.of_pipeline.version(2) / "package.json")
    assert repeated.serve.fault_ratio == 0.1
    assert repeated.provenance.from_version == 1
    assert repeated.digest == manifest.digest
    assert Result.read(again.result("package")).detail_as(PackageRecord).load.errors > 0

    # Where the run that trained it is gone, the skew check is skipped and says so.
    shutil.rmtree(own_run.step("transform"))
    code, said = component(own_run.of_pipeline.run("later"), "package", redeploy=2)
    assert code == 0, said
    later = Result.read(own_run.of_pipeline.run("later").result("package"))
    assert (
        "the run that trained version 2 is not readable"
        in later.detail_as(PackageRecord).skew_skipped_because
    )
    assert later.reasons[0].startswith("no skew check")


def test_an_engine_that_does_otherwise_with_what_callers_send_is_left_out(
    own_run: RunLayout, component: Any, tmp_path: Path
) -> None:
    """OpenVINO answers every row of the data, and refuses the colour that is not in them."""
    config, optimize = load_frozen(own_run), own_run.step("optimize")
    result = Result.read(own_run.result("optimize"))
    optimized = result.detail_as(OptimizeRecord)
    shards = Result.read(own_run.result("ingest")).detail_as(IngestRecord).shards["test"]
    columns = read_raw([own_run.step("ingest") / shard for shard in shards], config, limit=64)
    core = Core.of(
        optimize / (optimized.float_model or optimized.model),
        wire_inputs(columns.features, config),
        tmp_path,
    )
    shutil.rmtree(optimize / "engine", ignore_errors=True)
    (optimize / "engine").mkdir()
    make(core, KINDS["openvino"], optimize / "engine")
    files = EngineFiles.read(optimize / "engine" / "engine.json")
    # The table of colours has 8 rows; an unseen one gets the first id after those of known ones.
    ((colours, least),) = [
        (n, low) for n, (low, most) in files.index_limits.items() if most - low == 7
    ]
    (vocabulary,) = own_run.step("transform").rglob("colours")
    known = len(vocabulary.read_text().splitlines())
    limits = {colours: (least, least + known)}
    files.model_copy(update={"index_limits": limits}).write(optimize / "engine" / "engine.json")
    engine = {
        "name": "openvino",
        "path": "engine",
        "digest": digest_directory(optimize / "engine"),
        "tolerance": 1e-4,
        "measured": [{"name": "openvino", "is_eligible": True}],
    }
    detail = {**result.detail, "engine": engine}
    result.model_copy(update={"detail": detail}).write(own_run.result("optimize"))

    code, said = component(own_run, "package")
    assert code == 0, said
    packaged = Result.read(own_run.result("package"))
    callers = packaged.detail_as(PackageRecord).callers
    assert callers is not None
    why = callers.left_out["openvino"]
    assert why.startswith("'colour': a category never seen: openvino says 'instances[0].colour = ")
    assert "the model refuses the input: index" in why
    assert "tensorflow answers" in why
    assert packaged.reasons[0] == f"openvino is left out: {why}"
    folder = own_run.of_pipeline.version(1)
    manifest = PackageManifest.read(folder / "package.json")
    assert (manifest.engine.name, manifest.engine.path) == ("tensorflow", "")
    assert manifest.engine.measured[0].reason.startswith("left out by package: 'colour'")
    assert not (folder / "engine").exists()
    assert versions(own_run) == ["1"]

    # A retry finds its own package again, though its engine was another one.
    own_run.result("package").unlink()
    code, said = component(own_run, "package")
    assert code == 0, said
    assert versions(own_run) == ["1"]


@pytest.mark.parametrize(("tolerance", "whence"), [(0.0, "over HTTP"), (1e9, "from ")])
def test_skew_fails_the_step_and_leaves_nothing(
    own_run: RunLayout, component: Any, tolerance: float, whence: str
) -> None:
    """The optimised models are swapped for ones with other weights, as a broken export would be.

    However far an engine may be from its model, the model must be the trained one.
    """
    config = load_frozen(own_run)
    transformed = Result.read(own_run.result("transform")).detail_as(TransformRecord)
    graph = own_run.step("transform") / transformed.transform_graph
    result = Result.read(own_run.result("optimize"))
    optimized = result.detail_as(OptimizeRecord)
    detail = {**result.detail, "engine": {"name": "tensorflow", "tolerance": tolerance}}
    result.model_copy(update={"detail": detail}).write(own_run.result("optimize"))
    for name in filter(None, (optimized.model, optimized.float_model)):
        model = own_run.step("optimize") / name
        shutil.rmtree(model)
        export(config, graph, build_model(config, own_run.frozen_pipeline, graph), model)
    code, said = component(own_run, "package")
    assert code == 2, said
    assert f"training/serving skew: 64 of 64 rows get another answer {whence}" in said
    assert '"weight_kg":' in said
    assert versions(own_run) == []
    assert not own_run.step("package").exists()
    assert servers_of(own_run) == []


def test_answers_that_depend_on_the_batch_get_no_package(
    own_run: RunLayout, component: Any
) -> None:
    """Each row gets the mean answer of its batch: one row alone has no skew."""
    config = load_frozen(own_run)
    transformed = Result.read(own_run.result("transform")).detail_as(TransformRecord)
    graph = own_run.step("transform") / transformed.transform_graph
    trained = build_model(config, own_run.frozen_pipeline, graph)
    blessed = Result.read(own_run.result("bless")).detail_as(BlessRecord)
    load_weights(trained, own_run, blessed.step)
    inputs = trained.input
    means = {
        head: keras.ops.mean(output, axis=0, keepdims=True) + 0.0 * output
        for head, output in trained(inputs).items()
    }
    result = Result.read(own_run.result("optimize"))
    optimized = result.detail_as(OptimizeRecord)
    detail = {**result.detail, "engine": {"name": "tensorflow"}}
    result.model_copy(update={"detail": detail}).write(own_run.result("optimize"))
    for name in filter(None, (optimized.model, optimized.float_model)):
        model = own_run.step("optimize") / name
        shutil.rmtree(model)
        export(config, graph, keras.Model(inputs, means), model)
    resolved = own_run.frozen_pipeline / "resolved.json"
    settings = json.loads(resolved.read_text())
    settings["package"]["skew_examples"] = 1
    resolved.write_text(json.dumps(settings))
    code, said = component(own_run, "package")
    assert code == 2, said
    assert "package: the answer of output '" in said
    assert "with the rows beside it: something is computed over the batch" in said
    assert versions(own_run) == []
    assert servers_of(own_run) == []


def test_a_failed_load_test_leaves_nothing(own_run: RunLayout, component: Any) -> None:
    resolved = own_run.frozen_pipeline / "resolved.json"
    config = json.loads(resolved.read_text())
    config["package"]["loadtest"] |= {"max_p99_ms": 0.001, "requests": 77, "seconds": 60}
    resolved.write_text(json.dumps(config))
    started = time.monotonic()
    code, said = component(own_run, "package")
    assert code == 1, said
    assert time.monotonic() - started < 55  # 77 requests were enough
    assert "at most 0.001 ms is allowed" in said
    assert re.search(r"mean at the server, in ms: transform_request [0-9.]+, queue ", said)
    assert versions(own_run) == []


READS = """
import sys
from pathlib import Path
from components.optimize.judging.bench_process import may_fork
from components.optimize.optimize import optimize
from components.optimize.rows.samples import read_data
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.places import CODE_FOLDER
run = RunLayout(Path(sys.argv[1]), "parcels", "trained")
data = read_data([run.step("ingest") / shard for shard in sys.argv[2:]], load_frozen(run))
print(len(data.samples), may_fork())
"""


def test_reading_rows_leaves_the_optimiser_free_to_fork(own_run: RunLayout) -> None:
    """Else each run would import TensorFlow once more to measure cold starts."""
    shards = Result.read(own_run.result("ingest")).detail_as(IngestRecord).shards["eval"]
    command = [sys.executable, "-c", READS, str(own_run.root), *shards]
    done = subprocess.run(command, cwd=CODE_FOLDER, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "True"], done.stderr


def test_a_killed_package_leaves_no_version_and_no_server(
    own_run: RunLayout, component: Any
) -> None:
    process = component.start(own_run, "package")
    deadline = time.monotonic() + 120
    while not servers_of(own_run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_of(own_run)
    process.kill()
    process.communicate()
    while servers_of(own_run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers_of(own_run) == []
    assert versions(own_run) == []
    assert not own_run.result("package").exists()


def test_a_broken_saved_model_ends_with_exit_code_2(own_run: RunLayout, component: Any) -> None:
    (own_run.step("bless") / "candidate" / "saved_model.pb").write_bytes(b"broken")
    own_run.result("optimize").unlink()
    code, said = component(own_run, "optimize")
    assert code == 2, said
    assert "a SavedModel that cannot be loaded" in said


def test_an_unblessed_model_gets_no_package(own_run: RunLayout, component: Any) -> None:
    path = own_run.result("bless")
    result = Result.read(path)
    detail = {**result.detail, "is_blessed": False, "reasons": ["auc 0.5 on the test split"]}
    result.model_copy(update={"detail": detail}).write(path)
    code, said = component(own_run, "package")
    assert code == 2, said
    assert "not blessed, so it gets no package: auc 0.5" in said


def test_a_version_that_is_not_kept_cannot_be_redeployed(
    own_run: RunLayout, component: Any
) -> None:
    code, said = component(own_run.of_pipeline.run("again"), "package", redeploy=9)
    assert code == 2, said
    assert "version 9 is not kept (kept: none)" in said


# --- batch inference with what was packaged -----------------------------------------------------


@pytest.fixture(scope="module")
def packaged(optimized_run: RunLayout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package directory around the optimised model; `score` needs no server."""
    folder = tmp_path_factory.mktemp("packaged")
    shutil.copytree(optimized_run.step("optimize") / "model", folder / "model")
    config = load_frozen(optimized_run)
    from components.package.contents import of_run

    of_run(optimized_run, config).manifest.model_copy(
        update={"version": 3, "digest": digest_directory(folder / "model")}
    ).write(folder / "package.json")
    return folder


def test_a_file_is_scored_in_its_order(
    packaged: Path, optimized_run: RunLayout, pipelines: Path, tmp_path: Path
) -> None:
    source, config = pipelines / "parcels" / "parcels.parquet", load_frozen(optimized_run)
    report = score(Scoring(packaged, config, source, tmp_path / "out.csv"))
    assert (report.version, report.rows, report.bad_rows) == (3, 900, 0)
    table = arrow_csv.read_csv(tmp_path / "out.csv")
    assert table.column_names == ["row", "is_large", "is_large:no", "is_large:yes", "price"]
    assert table["row"].to_pylist() == list(range(1, 901))
    truth = pq.read_table(source)["is_large"].to_pylist()
    right = sum(a == b for a, b in zip(table["is_large"].to_pylist(), truth, strict=True))
    assert right > 800  # shuffled rows would agree on some 470
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_bad_rows_are_reported_and_the_others_scored(
    packaged: Path, optimized_run: RunLayout, pipelines: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(pipelines / "parcels" / "parcels.parquet").slice(0, 4)
    records = rows.drop_columns(["is_large", "price"]).to_pylist()  # nobody knows the labels
    records[1]["weight_kg"] = None
    records = [record | {"parcel": 100 + n} for n, record in enumerate(records)]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "in.parquet")
    paths = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    report = score(Scoring(packaged, load_frozen(optimized_run), *paths, keys=("parcel",)))
    assert (report.rows, report.bad_rows) == (3, 1)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(a["row"], a["parcel"]) for a in answers] == [(1, 100), (3, 102), (4, 103)]
    assert report.bad_rows_file is not None
    (bad,) = [json.loads(line) for line in report.bad_rows_file.read_text().splitlines()]
    assert bad["row"] == 2
    assert "weight_kg: missing" in bad["reason"]


def test_raw_shards_are_scored_as_their_rows(
    packaged: Path, optimized_run: RunLayout, tmp_path: Path
) -> None:
    shard = next(optimized_run.step("ingest").rglob("test-*.tfrecord.gz"))
    config = load_frozen(optimized_run)
    report = score(Scoring(packaged, config, shard, tmp_path / "out.parquet"))
    assert pq.read_table(tmp_path / "out.parquet").num_rows == report.rows > 100


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("columns.csv", b"weight,colour\n1,red\n", "missing columns: 'weight_kg'"),
        ("broken.parquet", b"PAR1 nothing", "truncated or not a Parquet file"),
        ("broken.tfrecord", b"nothing of the kind at all", "truncated or not a plain TFRecord"),
    ],
)
def test_broken_files_are_refused_and_leave_nothing(
    packaged: Path,
    optimized_run: RunLayout,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    scoring = Scoring(
        packaged, load_frozen(optimized_run), tmp_path / name, tmp_path / "out" / "answers.csv"
    )
    with pytest.raises(DataError, match=message):
        score(scoring)
    assert not any((tmp_path / "out").iterdir())


def test_an_unknown_extension_is_refused(
    packaged: Path, optimized_run: RunLayout, tmp_path: Path
) -> None:
    scoring = Scoring(
        packaged, load_frozen(optimized_run), tmp_path / "in.csv", tmp_path / "out.xlsx"
    )
    with pytest.raises(UserError, match=r"out\.xlsx: expected a file that ends in one of"):
        score(scoring)


def test_what_beam_cannot_do_is_said_in_one_line(
    packaged: Path,
    optimized_run: RunLayout,
    pipelines: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Beam would print a traceback and hide the error in a RuntimeError."""
    config = load_frozen(optimized_run)
    source = tmp_path / "in.txt"
    source.write_text("x")
    with pytest.raises(UserError, match=r"in\.txt: expected a file that ends in one of"):
        score(Scoring(packaged, config, source, tmp_path / "out.csv"))
    broken = tmp_path / "package"
    shutil.copytree(packaged, broken)
    (broken / "model" / "saved_model.pb").write_bytes(b"broken")
    rows = pipelines / "parcels" / "parcels.parquet"
    with pytest.raises(DataError, match="a SavedModel that cannot be loaded"):
        score(Scoring(broken, config, rows, tmp_path / "out.csv"))
    assert "Traceback" not in capfd.readouterr().err
