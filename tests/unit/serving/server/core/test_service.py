"""What every protocol asks of a version, without any protocol."""

import asyncio
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from contract.records.package import PackageManifest
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from serving.server.core.asked import Asked
from serving.server.core.batching import Batcher
from serving.server.core.metrics import ServerMetrics
from serving.server.core.service import Found, Loaded, PredictService
from serving.server.core.unanswerable import Control
from serving.server.requests.errors import (
    DeadlineError,
    InjectedFaultError,
    InvalidInputError,
    LoadingError,
    ModelFailedError,
    ModelNotFoundError,
)

UNLUCKY = 13.0  # what the engine refuses


def asked(*values: float) -> Asked:
    return Asked("serving_default", {"x": np.array(values, np.float32)}, "inputs")


def service_of(manifest: PackageManifest) -> PredictService:
    return PredictService(manifest, ServerMetrics(manifest.pipeline, manifest.version), ["stable"])


def answered(
    manifest: PackageManifest, engine, *values: float, expires_at: float = math.inf
) -> Found:
    """Return what `done` is told of rows of `x`."""

    async def told() -> Found:
        service = service_of(manifest)
        control = Control(engine.call, {"x": np.ones(1, np.float32)})
        batcher = Batcher(engine.call, manifest.serve, {}, service.metrics, control)
        service.loaded = Loaded(batcher, {}, {}, engine.signatures)
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        service.submit(b"r1", asked(*values), found.set_result, expires_at)
        return await found

    return asyncio.run(told())


def test_rows_are_answered_by_outputs(manifest, engine) -> None:
    found = answered(manifest(), engine, 1, 2.5)
    assert isinstance(found, dict)
    assert found["value"].tolist() == [2.0, 5.0]


def test_a_row_that_the_model_refuses_is_an_invalid_input_with_its_place(manifest, engine) -> None:
    found = answered(manifest(), engine, 1, UNLUCKY)
    assert type(found) is InvalidInputError
    assert str(found) == "inputs.x[1] = 13: the model refuses the input: 13 is unlucky"


def test_a_dead_model_is_a_failed_model_in_its_own_words(manifest, engine) -> None:
    engine.is_dead = True
    found = answered(manifest(), engine, 1)
    assert type(found) is ModelFailedError
    assert str(found) == "the model failed: out of memory"


def test_nothing_is_submitted_before_the_model_is_loaded(
    manifest: Callable[..., PackageManifest],
) -> None:
    service = service_of(manifest())
    assert service.state == "LOADING"
    for call in (service.ready, service.begin, lambda: service.submit(b"r", asked(1), print)):
        with pytest.raises(LoadingError, match="the model is still loading; try again"):
            call()


def test_a_share_of_predictions_fails_on_purpose(manifest, engine) -> None:
    service = service_of(manifest(serve=ServeConfig(fault_ratio=0.5)))
    service.loaded = Loaded(None, {}, {}, engine.signatures)  # type: ignore[arg-type]
    service.begin()
    with pytest.raises(InjectedFaultError, match=r"fault_ratio 0\.5"):
        service.begin()


def test_a_head_is_found_by_its_name_where_there_are_several(manifest) -> None:
    heads = {name: HeadConfig(task="regression") for name in ("price", "size")}
    service = service_of(manifest(heads=heads))
    found = service.head_of("regress", "size")
    assert (found.name, found.output) == ("size", "size_value")
    with pytest.raises(InvalidInputError, match="several heads, name one of 'price', 'size'"):
        service.head_of("regress", "")
    with pytest.raises(InvalidInputError, match="found 'colour', expected a head: 'price', 'size'"):
        service.head_of("regress", "colour")
    with pytest.raises(InvalidInputError, match=":classify: 'doubling' has no such head"):
        service.head_of("classify", "")


@pytest.mark.parametrize(
    ("asked_for", "words"),
    [
        (("other",), r"request: Latest\(other\); this server has version 7 of 'doubling' with the"),
        (("doubling", 8), r"Servable not found for request: Specific\(doubling, 8\)"),
        (("doubling", None, "canary"), r"Label\(doubling, canary\); .* with the labels 'stable'"),
    ],
)
def test_another_model_version_or_label_is_not_found(manifest, asked_for, words) -> None:
    with pytest.raises(ModelNotFoundError, match=words):
        service_of(manifest()).find(*asked_for)


@pytest.mark.parametrize(
    "asked_for", [("doubling",), ("doubling", 7), ("doubling", None, "stable")]
)
def test_its_own_name_version_and_label_are_found(manifest, asked_for) -> None:
    service_of(manifest()).find(*asked_for)


def test_a_caller_that_waits_no_longer_costs_no_call(manifest, engine) -> None:
    with pytest.raises(DeadlineError, match="the deadline has passed"):
        answered(manifest(), engine, 1, expires_at=time.monotonic() - 1)
    assert engine.batches == []


def test_what_expires_in_the_queue_is_refused_and_the_others_are_answered(
    manifest, slow_engine
) -> None:
    async def told() -> list[Found]:
        service, loop = service_of(manifest()), asyncio.get_running_loop()
        batcher = Batcher(slow_engine.call, ServeConfig(), {}, service.metrics)
        service.loaded = Loaded(batcher, {}, {}, slow_engine.signatures)
        found: list[asyncio.Future[Found]] = [loop.create_future() for _ in range(3)]
        service.submit(b"r0", asked(1), found[0].set_result)
        await asyncio.sleep(0.05)  # the model is at work for 0.2 s
        service.submit(b"r1", asked(2), found[1].set_result, time.monotonic() + 0.02)
        service.submit(b"r2", asked(3), found[2].set_result, time.monotonic() + 60)
        return list(await asyncio.gather(*found))

    first, expired, last = asyncio.run(told())
    assert type(expired) is DeadlineError
    assert "the deadline passed while the request waited for the model" in str(expired)
    assert [first["value"].tolist(), last["value"].tolist()] == [[2.0], [6.0]]  # type: ignore[index]
    assert slow_engine.batches == [1, 1]
