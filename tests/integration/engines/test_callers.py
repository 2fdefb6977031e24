"""What callers may send, tried on packages of every engine by real servers."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf
import warm

from components.optimize.engines.core import Core
from components.optimize.engines.index_limits import index_limits
from components.package.caller_rows import caller_rows
from components.package.callers import EngineDiffersError, try_callers
from components.package.package import Contents, Workplace, package
from components.package.server_process import RunningServer, running_server
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.model_io import DEFAULT_SIGNATURE
from contract.programs import WARM_PARENT
from contract.records.optimization import (
    EngineFiles,
    EngineMeasurement,
    FallbackEngine,
    ServedEngine,
)
from contract.records.package import CallersReport, InputSpec, PackageManifest
from contract.schema.data import HeadConfig
from contract.schema.serving import LoadtestConfig, PackageConfig
from contract.storage import Attempt, digest_directory

Packaged = Callable[..., Path]


@pytest.fixture(autouse=True)
def _servers_are_forks(monkeypatch: pytest.MonkeyPatch, warm_parent: Path) -> None:
    """Let servers start here as in a step that is a fork."""
    monkeypatch.setenv(WARM_PARENT, str(warm_parent))


GOOD = {"town": "b", "id": 3, "x": 1.5, "amount": "2.5", "lengths": [1.0, 3.0]}
INPUTS = {
    "town": InputSpec(dtype="string", default="a"),
    "id": InputSpec(dtype="int64"),
    "x": InputSpec(dtype="float32", default=1.0),
    "amount": InputSpec(dtype="string"),
    "lengths": InputSpec(dtype="float32", is_variable_length=True),
}


class Traps(tf.Module):
    """A vocabulary with an id too many for its table, ids, an exponential, text, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        initializer = tf.lookup.KeyValueTensorInitializer(
            ["a", "b", "c"], tf.constant([0, 1, 2], tf.int64)
        )
        self.vocabulary = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        self.towns = tf.Variable([[0.5], [1.0], [2.0]])
        self.ids = tf.Variable(tf.reshape(tf.range(10.0), (10, 1)))

    @tf.function(autograph=False)
    def __call__(self, town: Any, id: Any, x: Any, amount: Any, lengths: Any) -> dict[str, Any]:
        is_value = tf.logical_not(tf.math.is_nan(lengths))
        known = tf.where(is_value, lengths, tf.zeros_like(lengths))
        mean = tf.reduce_sum(known, 1) / tf.reduce_sum(tf.cast(is_value, tf.float32), 1)
        parts = [
            tf.gather(self.towns, self.vocabulary.lookup(town))[:, 0],
            tf.gather(self.ids, id)[:, 0],
            tf.exp(x),
            tf.strings.to_number(amount),
            mean,
        ]
        return {"value": tf.add_n(parts)}


@pytest.fixture(scope="session")
def traps(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Any:
    module, path = Traps(), tmp_path_factory.mktemp("traps") / "model"
    specs = {
        name: tf.TensorSpec([None, None] if spec.is_variable_length else [None], spec.dtype, name)
        for name, spec in INPUTS.items()
    }
    function = module.__call__.get_concrete_function(**specs)
    tf.saved_model.save(module, str(path), {DEFAULT_SIGNATURE: function})
    rows = {
        "town": np.array([b"a", b"b", b"c", b"b"], object),
        "id": np.arange(4),
        "x": np.linspace(0, 2, 4).astype("f4"),
        "amount": np.array([b"1", b"2.5", b"-3", b"0"], object),
        "lengths": np.array([[1, 3], [2, np.nan], [4, 4], [0, 1]], "f4"),
    }
    return type(digits)(path, rows, INPUTS, {"y": HeadConfig(task="regression")})


def served_by_tensorflow(package: Path, target: Path) -> Path:
    """Return a package of the same model that TensorFlow serves."""
    shutil.copytree(package, target, symlinks=True)
    shutil.rmtree(target / "engine")
    manifest = PackageManifest.read(target / "package.json")
    manifest.model_copy(update={"engine": ServedEngine()}).write(target / "package.json")
    return target


def add_example(package: Path) -> None:
    """Keep a good row in a package, as the step does."""
    (package / "examples.jsonl").write_text(json.dumps(GOOD) + "\n")
    manifest = PackageManifest.read(package / "package.json")
    manifest.model_copy(update={"examples": "examples.jsonl"}).write(package / "package.json")


@pytest.fixture(scope="session", params=["tensorflow", "openvino", "litert"])
def trap_server(
    request: pytest.FixtureRequest,
    traps: Any,
    packaged: Packaged,
    warm_parent: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    if request.param == "tensorflow":
        package = served_by_tensorflow(packaged(traps, "litert"), folder / "package")
    else:
        package = packaged(traps, request.param)
    add_example(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WARM_PARENT, str(warm_parent))
        warm.await_warm(warm_parent)
        with running_server(package, folder / "server.log") as server:
            server.wait_until_ready()
            assert "fresh process" not in server.log.read_text()
            yield server


def ask(server: RunningServer, *rows: dict[str, Any]) -> tuple[int, Any]:
    answer = httpx.post(server.predict_url, json={"instances": list(rows)}, timeout=60)
    return answer.status_code, answer.json()


ANSWERED = [
    ({}, 1.0 + 3.0 + np.exp(1.5) + 2.5 + 2.0),
    ({"town": "a", "id": 0}, 0.5 + 0.0 + np.exp(1.5) + 2.5 + 2.0),
    ({"id": 9, "x": 80.0}, np.exp(80.0)),
    ({"x": -1e32}, 1.0 + 3.0 + 0.0 + 2.5 + 2.0),
    ({"amount": "-1e32"}, -1e32),
    ({"lengths": [1.0] * 5000}, 1.0 + 3.0 + np.exp(1.5) + 2.5 + 1.0),
]
REFUSED: dict[str, list[Any]] = {
    "town": ["d", "", "never seen", "long " * 20_000, "A"],
    "id": [10, -1, 2**31, 2**63 - 1, -(2**63)],
    "amount": ["", "abc", "1,5", "0x", "ten " * 1000, {"b64": "//79"}],
}
NOT_FINITE: dict[str, list[Any]] = {
    "x": [1e32, 89.0, 3.4028234e38, 1000, 12345.678],
    "lengths": [[], [3e38, 3e38], [1e38] * 9, [-3e38] * 2, [3.4e38, 1.0, 3.4e38]],
    "amount": ["inf", "-inf", "nan", "1e39", "-1e400"],
}


@pytest.mark.parametrize(("change", "expected"), ANSWERED)
def test_what_the_model_can_answer_is_answered(
    trap_server: RunningServer, change: dict[str, Any], expected: float
) -> None:
    status, answer = ask(trap_server, GOOD | change)
    assert (status, answer["predictions"]) == (200, [pytest.approx(expected, rel=1e-5)])


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        (feature, value, words)
        for kind, words in ((REFUSED, "refuses the input"), (NOT_FINITE, "has no finite 'value'"))
        for feature, values in kind.items()
        for value in values
    ],
)
def test_what_it_cannot_answer_is_400_with_row_and_feature(
    trap_server: RunningServer, feature: str, value: Any, words: str
) -> None:
    status, answer = ask(trap_server, GOOD, GOOD | {feature: value}, GOOD)
    assert status == 400, answer
    assert answer["error"].startswith(f"instances[1].{feature} = "), answer
    assert words in answer["error"]
    assert "Traceback" not in trap_server.log.read_text()


def test_neighbours_in_the_same_batch_are_answered(trap_server: RunningServer) -> None:
    """64 callers at once; of each kind of bad row five are among them."""
    import asyncio

    bad = [{f: v} for kind in (REFUSED, NOT_FINITE) for f, values in kind.items() for v in values]
    changes = bad + [{} for _ in range(34)]

    async def all_at_once() -> list[int]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            sent = [
                http.post(trap_server.predict_url, json={"instances": [GOOD | change]})
                for change in changes
            ]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    assert asyncio.run(all_at_once()) == [400] * len(bad) + [200] * 34


# --- tried in package ---------------------------------------------------------------------------


def tried(package: Path, model: Any, tolerance: float = 1e-4) -> CallersReport:
    """Try a package as the step does."""
    real = [GOOD] if "town" in model.inputs else model.instances(4)
    if "town" in model.inputs:
        add_example(package)
    rows = caller_rows(model.inputs, {}, real)
    with running_server(package, package.parent / f"{package.name}.log") as server:
        server.wait_until_ready()
        return try_callers(server, package, rows, tolerance)


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_a_good_model_answers_callers_alike_in_every_engine(
    digits: Any, packaged: Packaged, engine: str
) -> None:
    """A softmax of a huge number is still a number; of one that overflows it is not."""
    report = tried(packaged(digits, engine), digits)
    unanswered = {one.what for one in report.unanswered}
    assert unanswered <= {"the largest float32 everywhere", "the least float32 everywhere"}
    assert report.rows == 9


def without_id_checks(package: Path) -> PackageManifest:
    """Make a package like those of an older Slipway, whose server does not check ids."""
    files = EngineFiles.read(package / "engine" / "engine.json")
    assert sorted(files.index_limits.values()) == [(0, 2), (0, 9)]
    files.model_copy(update={"index_limits": {}}).write(package / "engine" / "engine.json")
    manifest = PackageManifest.read(package / "package.json")
    digest = digest_directory(package / "engine")
    measured = (EngineMeasurement(name="openvino", is_eligible=True),)
    engine = manifest.engine.model_copy(update={"digest": digest, "measured": measured})
    manifest = manifest.model_copy(update={"engine": engine})
    manifest.write(package / "package.json")
    return manifest


def test_an_engine_that_invents_answers_is_found(traps: Any, packaged: Packaged) -> None:
    folder = packaged(traps, "openvino")
    without_id_checks(folder)
    with pytest.raises(
        EngineDiffersError, match=r"'town': a category never seen: openvino answers"
    ):
        tried(folder, traps)


def test_a_package_is_kept_without_an_engine_that_invents_answers(
    traps: Any, packaged: Packaged, tmp_path: Path
) -> None:
    source = packaged(traps, "openvino")
    manifest = without_id_checks(source).model_copy(update={"version": 0})
    contents = Contents(
        model=traps.path,
        engine=source / "engine",
        exact_model=None,
        manifest=manifest,
        rows=[GOOD],
        features={},
        row_tolerance=1e-4,
        skew=lambda: "there is no run",
    )
    layout = PipelineLayout(tmp_path / "root", "tried")
    layout.versions.mkdir(parents=True)
    settings = PackageConfig(loadtest=LoadtestConfig(seconds=0.5, concurrency=2))
    for _ in range(2):  # a retry finds its own package, though the engine was another one
        work = tmp_path / "root" / "work"
        work.mkdir(exist_ok=True)
        workplace = Workplace(layout, work, Attempt.claim(work / "tokens"))
        record = package(contents, settings, workplace)
        assert (record.version, layout.kept_versions()) == (1, [1])
    assert record.callers is not None
    why = record.callers.left_out["openvino"]
    assert why.startswith("'town': a category never seen: openvino answers ")
    assert "tensorflow says 'instances[0].town = 'never seen \u2205': the model refuses" in why
    kept = PackageManifest.read(layout.version(1) / "package.json")
    assert (kept.engine.name, kept.engine.path) == ("tensorflow", "")
    assert kept.engine.reason == f"openvino left out by package: {why}"
    assert [row.is_eligible for row in kept.engine.measured] == [False]
    assert not (layout.version(1) / "engine").exists()
    assert {one.feature for one in record.callers.unanswered} >= {"town", "id", "x", "amount"}


def test_the_next_best_engine_is_packaged_if_the_best_is_left_out(
    traps: Any, packaged: Packaged, tmp_path: Path
) -> None:
    """LiteRT cannot tell the largest float32 from infinity (below); OpenVINO can."""
    best, second = packaged(traps, "litert"), packaged(traps, "openvino")
    fallback = FallbackEngine(
        name="openvino",
        path="fallbacks/openvino",
        digest=digest_directory(second / "engine"),
        tolerance=1e-4,
        exempt_ratio=0.0,
        reason="2.0 times as fast as tensorflow",
    )
    manifest = PackageManifest.read(best / "package.json").model_copy(update={"version": 0})
    made: list[str] = []  # the rows of the skew check are looked up once, however many are tried

    def looked_up() -> str:
        made.append("rows")
        return "there is no run"

    contents = Contents(
        model=traps.path,
        engine=best / "engine",
        exact_model=None,
        manifest=manifest,
        rows=[GOOD],
        features={},
        row_tolerance=1e-4,
        skew=looked_up,
        fallbacks=[(fallback, second / "engine")],
    )
    layout = PipelineLayout(tmp_path / "root", "tried")
    work = tmp_path / "root" / "work"
    work.mkdir(parents=True)
    layout.versions.mkdir(parents=True)
    settings = PackageConfig(loadtest=LoadtestConfig(seconds=0.5, concurrency=2))
    record = package(contents, settings, Workplace(layout, work, Attempt.claim(work / "tokens")))
    assert record.callers is not None and list(record.callers.left_out) == ["litert"]
    kept = PackageManifest.read(layout.version(1) / "package.json").engine
    assert (kept.name, kept.path, kept.digest) == ("openvino", "engine", fallback.digest)
    assert kept.reason.startswith("2.0 times as fast as tensorflow; litert left out by package: ")
    engine = EngineFiles.read(layout.version(1) / "engine" / "engine.json").engine
    assert (engine, digest_directory(layout.version(1) / "engine")) == ("openvino", kept.digest)
    assert made == ["rows"]


def test_an_engine_that_cannot_tell_the_largest_number_from_infinity_is_found(
    traps: Any, packaged: Packaged
) -> None:
    """The mean of one largest float32 is a number; XNNPACK answers the same for an overflow."""
    with pytest.raises(
        EngineDiffersError, match=r"'lengths': a list of the largest float32: litert says .* finite"
    ):
        tried(packaged(traps, "litert"), traps)


def test_what_no_engine_can_answer_is_known_and_the_engine_stays(
    traps: Any, packaged: Packaged
) -> None:
    report = tried(packaged(traps, "openvino"), traps)
    unanswered = {(one.feature, one.what): one.reason for one in report.unanswered}
    refused = "the model refuses the input"
    assert refused in unanswered["town", "a category never seen"]
    assert refused in unanswered["id", "the largest int64"]
    assert refused in unanswered["amount", "the empty text"]
    assert "has no finite 'value'" in unanswered["lengths", "an empty list"]
    assert "has no finite 'value'" in unanswered["x", "1e32"]
    for feature, what in (("town", "left out"), ("id", "0"), ("x", "-1e32"), ("", "all defaults")):
        assert (feature, what) not in unanswered


def test_int8_is_not_held_to_numbers_beyond_those_it_was_calibrated_on(
    digits: Any, packaged: Packaged
) -> None:
    report = tried(packaged(digits, "litert_int8"), digits, tolerance=0.2)
    assert report.left_out == {}


def test_signatures_that_answer_differently_are_refused(
    digits: Any, packaged: Packaged, tmp_path: Path
) -> None:
    class Two(tf.Module):
        @tf.function(autograph=False)
        def plain(self, x: Any) -> dict[str, Any]:
            return {"value": x * 2.0}

        @tf.function(autograph=False)
        def parsed(self, examples: Any) -> dict[str, Any]:
            spec = {"x": tf.io.FixedLenFeature([], tf.float32)}
            return {"value": tf.io.parse_example(examples, spec)["x"] * 2.0 + 1.0}

    module, path = Two(), tmp_path / "two"
    signatures = {
        "serving_default": module.plain.get_concrete_function(
            x=tf.TensorSpec([None], tf.float32, "x")
        ),
        "serving_examples": module.parsed.get_concrete_function(
            examples=tf.TensorSpec([None], tf.string, "examples")
        ),
    }
    tf.saved_model.save(module, str(path), signatures)
    inputs = {"x": InputSpec(dtype="float32")}
    heads = {"y": HeadConfig(task="regression")}
    model = type(digits)(path, {"x": np.arange(4, dtype="f4")}, inputs, heads)
    package = served_by_tensorflow(packaged(model, "litert"), tmp_path / "package")
    with pytest.raises(
        DataError, match=r"'serving_examples' and 'serving_default' answer the same row diff"
    ):
        tried(package, model)


# --- ids that are checked before an engine sees them --------------------------------------------


@pytest.mark.parametrize(
    ("index", "limits"),
    [
        (lambda i: i, {"i": (0, 4)}),
        (lambda i: tf.cast(tf.reshape(i, [-1]), tf.int32), {"i": (0, 4)}),
        (lambda i: i + 1, {"i": (-1, 3)}),
        (lambda i: i - 3, {"i": (3, 7)}),
        (lambda i: tf.maximum(i, 1), {"i": (-(2**63), 4)}),
        (lambda i: tf.minimum(i + 2, 4), {"i": (-2, 2**63 - 1)}),
        (lambda i: tf.maximum(tf.minimum(i, 4), 0), {"i": (-(2**63), 2**63 - 1)}),
        (lambda i: i * 2, {}),
        (lambda i: tf.cast(tf.cast(i, tf.float32) / 2, tf.int64), {}),
    ],
)
def test_limits_of_ids_are_read_from_the_graph(
    tmp_path: Path, index: Callable[[Any], Any], limits: dict[str, tuple[int, int]]
) -> None:
    module = tf.Module()
    module.table = tf.Variable(tf.random.normal((5, 2), seed=1))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int64, "i")])
    def answer(i: Any) -> dict[str, Any]:
        return {"value": tf.reduce_sum(tf.gather(module.table, index(i)), 1)}

    module.answer = answer
    tf.saved_model.save(module, str(tmp_path / "model"), {DEFAULT_SIGNATURE: answer})
    (tmp_path / "parts").mkdir()
    core = Core.of(tmp_path / "model", {"i": np.array([1, 1])}, tmp_path / "parts")
    assert index_limits(core.core) == limits
    assert core.files("openvino", "fp32", "x").index_limits == limits
