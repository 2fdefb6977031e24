"""Loading, unloading, labels, and what a request means."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.errors import DataError
from contract.wire.tensorflow_serving import ModelSpec
from serving.server.grpc.statuses import CallError
from serving.standalone.configuration import ModelConfig, VersionPolicy
from serving.standalone.servables import Loading

from .conftest import Halving, Program, running, version

ALL = VersionPolicy("all")


def used(program: Program, name: str, number: int | None = None, label: str = "") -> int:
    spec = ModelSpec(name=name)
    if number is not None:
        spec.version.value = number
    if label:
        spec.version_label = label

    async def use() -> int:
        with program.servables.use(spec) as found:
            return found.number

    return int(program.await_(use()))


def test_the_latest_version_answers_where_none_is_named(tmp_path: Path) -> None:
    version(tmp_path, 2), version(tmp_path, 10)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path, ALL))
        program.wait_for("m", {2: "AVAILABLE", 10: "AVAILABLE"})
        assert (used(program, "m"), used(program, "m", 2)) == (10, 2)


@pytest.mark.parametrize(
    ("name", "number", "label", "message", "code"),
    [
        ("none", None, "", r"Servable not found for request: Latest\(none\)", "NOT_FOUND"),
        ("m", 7, "", r"Servable not found for request: Specific\(m, 7\)", "NOT_FOUND"),
        ("m", None, "x", "Unrecognized servable version label: x", "INVALID_ARGUMENT"),
        ("", None, "", "ModelSpec has no name specified", "INVALID_ARGUMENT"),
    ],
)
def test_what_is_not_served_is_refused_in_the_real_words(
    tmp_path: Path, name: str, number: int | None, label: str, message: str, code: str
) -> None:
    version(tmp_path, 1)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path))
        with pytest.raises(CallError, match=message) as refusal:
            used(program, name, number, label)
    assert refusal.value.code.name == code


def test_a_new_version_is_loaded_and_the_old_one_then_unloaded(tmp_path: Path) -> None:
    first = version(tmp_path, 1)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path))
        version(tmp_path, 2)
        program.poll()
        program.wait_for("m", {1: "END", 2: "AVAILABLE"})
        assert used(program, "m") == 2
        assert program.opened[first].is_closed


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_service(tmp_path: Path) -> None:
    version(tmp_path, 1)

    def opener(path: Path) -> Halving:
        if path.name == "2":
            raise DataError(f"{path}: broken on purpose")
        return Halving(path)

    with running(opener=opener) as program:
        program.serve(ModelConfig("m", tmp_path))
        version(tmp_path, 2)
        program.poll()
        program.wait_for("m", {1: "AVAILABLE", 2: "END"})
        assert used(program, "m") == 1
        status = program.await_(status_of(program, ModelSpec(name="m")))
        assert [(v.number, str(v.error or "")) for v in status] == [
            (2, f"{tmp_path / '2'}: broken on purpose"),
            (1, ""),
        ]


async def status_of(program: Program, spec: Any) -> Any:
    return program.servables.status(spec)


def test_a_load_that_fails_is_tried_again(tmp_path: Path) -> None:
    version(tmp_path, 1)
    tries = []

    def opener(path: Path) -> Halving:
        tries.append(path)
        if len(tries) < 3:
            raise OSError("the disk is away")
        return Halving(path)

    with running(Loading(retries=2, retry_seconds=0.01), opener=opener) as program:
        program.serve(ModelConfig("m", tmp_path))
        assert used(program, "m") == 1
    assert len(tries) == 3


def test_a_model_that_never_becomes_available_is_an_error_of_the_start(tmp_path: Path) -> None:
    version(tmp_path, 1)

    def opener(path: Path) -> Halving:
        raise DataError(f"{path}: broken on purpose")

    with running(opener=opener) as program:
        message = r"1 servable\(s\) did not become available: {Latest\(m\): .*broken on purpose}"
        with pytest.raises(CallError, match=message):
            program.serve(ModelConfig("m", tmp_path))


def test_a_version_whose_folder_is_gone_is_unloaded_and_comes_back_with_it(tmp_path: Path) -> None:
    first = version(tmp_path, 1)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path))
        shutil.rmtree(first)
        program.poll()
        program.wait_for("m", {1: "END"})
        version(tmp_path, 1)
        program.poll()
        program.wait_for("m", {1: "AVAILABLE"})


def test_a_broken_version_that_comes_back_repaired_is_loaded(tmp_path: Path) -> None:
    version(tmp_path, 1)

    def opener(path: Path) -> Halving:
        if path.name == "2" and not (path / "repaired").exists():
            raise DataError(f"{path}: broken on purpose")
        return Halving(path)

    with running(opener=opener) as program:
        program.serve(ModelConfig("m", tmp_path, ALL))
        second = version(tmp_path, 2)
        program.poll()
        program.wait_for("m", {1: "AVAILABLE", 2: "END"})
        (second / "repaired").touch()
        program.poll()  # it has not been away: what failed is not tried at every poll
        assert program.states("m") == {1: "AVAILABLE", 2: "END"}
        second.rename(tmp_path / "away")
        program.poll()
        (tmp_path / "away").rename(second)
        program.poll()
        program.wait_for("m", {1: "AVAILABLE", 2: "AVAILABLE"})


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_new_model_without_a_version_is_an_error_and_does_not_stop_the_next_reload(
    tmp_path: Path, has_folder: bool
) -> None:
    late, c_path = tmp_path / "late", tmp_path / "c"
    version(tmp_path / "a", 1), version(c_path, 1)
    if has_folder:
        late.mkdir()
    a, b, c = ModelConfig("a", tmp_path / "a"), ModelConfig("b", late), ModelConfig("c", c_path)
    with running() as program:
        program.serve(a)
        message = rf"1 servable\(s\) did not become .*Latest\(b\): no version .* base path {late}}}"
        with pytest.raises(CallError, match=message):
            program.serve(a, b)
        program.serve(a, b, c)
        assert used(program, "c") == 1
        version(late, 3)
        program.poll()
        program.wait_for("b", {3: "AVAILABLE"})


def test_the_start_waits_for_a_first_version(tmp_path: Path) -> None:
    with running() as program, ThreadPoolExecutor(1) as callers:
        start = callers.submit(program.serve, ModelConfig("m", tmp_path))
        program.wait_until(lambda: program.await_(known(program, "m")))
        assert not start.done()
        version(tmp_path, 1)
        program.poll()
        start.result(60)
        assert used(program, "m") == 1


async def known(program: Program, name: str) -> bool:
    return program.servables.knows(name)


def test_a_model_that_is_slow_to_load_does_not_hold_up_another_configuration(
    tmp_path: Path,
) -> None:
    version(tmp_path / "slow", 1), version(tmp_path / "b", 1)
    may_load = threading.Event()

    def opener(path: Path) -> Halving:
        if path.parent.name == "slow":
            may_load.wait(60)
        return Halving(path)

    slow, other = (ModelConfig(name, tmp_path / name) for name in ("slow", "b"))
    with running(Loading(2, retries=0), opener=opener) as program, ThreadPoolExecutor(1) as callers:
        first = callers.submit(program.serve, slow)
        program.wait_for("slow", {1: "LOADING"})
        try:
            program.serve(slow, other)
            assert used(program, "b") == 1
            program.serve(other)
            with pytest.raises(CallError, match=r"Latest\(slow\): it is no longer configured"):
                first.result(60)
        finally:
            may_load.set()


def test_a_base_path_that_is_gone_unloads_nothing(tmp_path: Path) -> None:
    base = tmp_path / "models"
    version(base, 1)
    with running() as program:
        program.serve(ModelConfig("m", base))
        shutil.rmtree(base)
        program.poll()
        assert used(program, "m") == 1


def test_another_configuration_replaces_models(tmp_path: Path) -> None:
    version(tmp_path / "a", 1), version(tmp_path / "b", 1)
    with running() as program:
        program.serve(ModelConfig("a", tmp_path / "a"))
        program.serve(ModelConfig("b", tmp_path / "b"))
        assert used(program, "b") == 1
        program.wait_for("a", {1: "END"})
        with pytest.raises(CallError, match="Servable not found for request: Latest"):
            used(program, "a")


def test_a_request_keeps_its_version_until_it_is_answered(tmp_path: Path) -> None:
    first = version(tmp_path, 1)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path))
        old = program.opened[first]
        old.may_answer.clear()
        with ThreadPoolExecutor(1) as callers:
            body = {"instances": [2.0]}
            call = callers.submit(program.send, "POST", "/v1/models/m:predict", body)
            spec = ModelSpec(name="m")
            program.wait_until(lambda: program.await_(in_flight(program, spec)) == 1)
            version(tmp_path, 2)
            program.poll()
            program.wait_for("m", {1: "UNLOADING", 2: "AVAILABLE"})
            assert not old.is_closed
            old.may_answer.set()
            assert call.result(60) == (200, {"predictions": [2.0]})
        program.wait_for("m", {1: "END", 2: "AVAILABLE"})
        assert old.is_closed


async def in_flight(program: Program, spec: Any) -> int:
    return sum(found.in_flight for found in program.servables.status(spec))


def test_a_label_may_name_only_what_is_available(tmp_path: Path) -> None:
    version(tmp_path, 1), version(tmp_path, 2)
    words = "Request to assign label to version 1 of model m, which is not currently available"
    with running() as program:
        with pytest.raises(CallError, match=words) as refusal:
            program.serve(ModelConfig("m", tmp_path, ALL, {"stable": 1}))
        assert refusal.value.code.name == "FAILED_PRECONDITION"
        program.serve(ModelConfig("m", tmp_path, ALL))
        program.wait_for("m", {1: "AVAILABLE", 2: "AVAILABLE"})
        program.serve(ModelConfig("m", tmp_path, ALL, {"stable": 1}))
        assert used(program, "m", label="stable") == 1
        program.serve(ModelConfig("m", tmp_path, ALL, {"stable": 2}))
        assert used(program, "m", label="stable") == 2


def test_a_new_label_may_name_what_is_not_available_only_if_that_is_allowed(
    tmp_path: Path,
) -> None:
    version(tmp_path, 1)
    with running(Loading(retries=0, allows_unknown_labels=True)) as program:
        program.serve(ModelConfig("m", tmp_path, ALL, {"stable": 1, "next": 5}))
        assert used(program, "m", label="stable") == 1
        with pytest.raises(CallError, match=r"Servable not found for request: Specific\(m, 5\)"):
            used(program, "m", label="next")
        # One that is in use may not be moved to nowhere.
        with pytest.raises(CallError, match="Request to assign label to version 6"):
            program.serve(ModelConfig("m", tmp_path, ALL, {"stable": 6}))
        assert used(program, "m", label="stable") == 1
