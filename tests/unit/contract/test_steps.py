"""The table of steps agrees with itself, with the folders, and with what is derived from it."""

import importlib.util

import pytest

from contract.steps import COMPONENTS, STEPS, redeploying_steps, stages, steps_of


def test_a_step_reads_earlier_steps_only_and_none_beside_it() -> None:
    seen: set[str] = set()
    for stage in stages():
        for name in stage:
            assert set(STEPS[name].reads) <= seen, name
        seen |= set(stage)
    assert seen == set(STEPS)


def test_each_component_is_a_folder_with_a_main_module() -> None:
    for component in COMPONENTS:
        assert importlib.util.find_spec(f"components.{component}.__main__"), component


@pytest.mark.parametrize("step", STEPS)
def test_the_work_of_a_step_is_a_module_named_like_it(step: str) -> None:
    assert importlib.util.find_spec(STEPS[step].module)


def test_a_component_runs_its_steps_in_order() -> None:
    assert steps_of("deploy") == ("canary", "promote")
    assert steps_of("train") == ("train",)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, "ingest validate transform train+evaluate bless optimize package canary promote"),
        (
            {"is_deploying": False},
            "ingest validate transform train+evaluate bless optimize package",
        ),
        ({"is_redeployment": True}, "package canary promote"),
        ({"is_redeployment": True, "is_deploying": False}, "package"),
    ],
)
def test_the_stages_of_a_run(how: dict[str, bool], expected: str) -> None:
    assert " ".join("+".join(stage) for stage in stages(**how)) == expected
    assert redeploying_steps() == ("package", "canary", "promote")
