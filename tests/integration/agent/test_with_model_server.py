"""The same stack with the real model server and a small SavedModel."""

import sys
import time
from pathlib import Path

import httpx
import pytest

from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Shadow
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

BODY = {"instances": [{"x": 1.0}, {"x": 2.0}]}


def save_model(folder: Path, logits: tuple[float, float]) -> None:
    """Save a model that answers the same two scores for every row."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.nn.softmax(tf.constant([logits]))
        return {"scores": tf.repeat(row, tf.shape(x)[0], axis=0)}

    module.serving_default = serving_default
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})


def add_package(stack, version: int, logits: tuple[float, float]) -> None:
    folder = stack.layout.version(version)
    save_model(folder / "model", logits)
    manifest = PackageManifest(
        pipeline="digits",
        version=version,
        created_at="2026-01-01T00:00:00Z",
        digest=digest_directory(folder / "model"),
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
        serve=ServeConfig(drain_seconds=5.0),
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )
    manifest.write(folder / "package.json")


@pytest.fixture
def real_stack(make_stack):
    stack = make_stack(server_command=(sys.executable, "-m", "serving.server"))
    add_package(stack, 1, (2.0, 1.0))
    add_package(stack, 2, (1.0, 2.0))
    return stack


def test_from_shadow_to_promotion_with_the_real_server(real_stack, load_on) -> None:
    stack = real_stack
    stack.serve({1: 100})
    url = f"{stack.url}/v1/models/digits:predict"
    answer = httpx.post(url, json=BODY)
    assert answer.json()["predictions"] == [pytest.approx([0.7311, 0.2689], abs=1e-4)] * 2
    assert answer.headers["x-slipway-version"] == "1"

    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    for _ in range(20):
        httpx.post(url, json=BODY)
    # two rows a request; the versions never agree
    stack.until(lambda: stack.seen(2).compared == 40, "40 pairs")
    assert stack.seen(2).disagreements == 40

    with load_on(stack, body=BODY) as load:
        stack.serve({1: 50, 2: 50})
        stack.until(lambda: load.counted()["2"] > 20, "canary traffic")
        stack.serve({2: 100})
        stack.until(lambda: stack.observation().of(1) is None, "server 1 gone")
    assert load.failures() == {}
    assert stack.seen(2).errors == 0


def test_a_killed_model_server_costs_callers_little(real_stack, load_on) -> None:
    stack = real_stack
    stack.serve({1: 100})
    with load_on(stack, callers=4, body=BODY) as load:
        time.sleep(0.5)
        killed = stack.kill(stack.server(1))
        stack.until(lambda: stack.pid(stack.server(1)) not in (0, killed), "server restarted")
        stack.until(lambda: stack.seen(1).is_ready, "ready again")
        recovered = len(load.answers)
        stack.until(lambda: len(load.answers) > recovered + 50, "traffic after the restart")
    failed = [answer for answer in load.answers if not answer.is_good]
    # One request a caller fails at once: those that the killed process had in hand. (Two, where a
    # busy machine is late in starting its successor.) The others wait for the successor.
    assert sum(answer.seconds < 2.0 for answer in failed) <= 2 * 4, failed


def test_a_corrupt_model_is_told_in_words(real_stack) -> None:
    stack = real_stack
    stack.serve({1: 100})
    (stack.layout.version(2) / "model" / "saved_model.pb").write_bytes(b"broken")
    stack.propose({1: 90, 2: 10})

    def is_told() -> bool:
        return any(
            "version 2" in problem and "corrupt" in problem
            for problem in stack.observation().problems
        )

    stack.until(is_told, "the corrupt model")
    assert httpx.post(f"{stack.url}/v1/models/digits:predict", json=BODY).status_code == 200
