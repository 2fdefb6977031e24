"""What callers see when processes are killed: the agent, a server, Envoy, supervisord's memory."""

import os
import signal
import time

import pytest

from contract.records.traffic import Shadow


def test_a_killed_agent_costs_no_request_and_its_successor_goes_on(stack, load_on) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 50, 2: 50})
    before = {name: stack.pid(name) for name in (stack.server(1), stack.server(2), "envoy")}
    with load_on(stack) as load:
        stack.kill("agent")
        time.sleep(1.0)
        stack.serve({1: 100})  # the client waits for the successor
        time.sleep(0.3)
        count = load.counted()["2"]
        time.sleep(0.3)
    assert load.failures() == {}
    assert load.counted()["2"] == count
    assert before.items() <= {name: s.pid for name, s in stack.supervisor.states().items()}.items()


def test_an_agent_killed_before_a_version_is_ready_keeps_the_old_weights(stack, load_on) -> None:
    stack.package(1)
    stack.package(2, start_seconds=6.0)
    stack.serve({1: 100})
    with load_on(stack) as load:
        plan = stack.propose({1: 50, 2: 50})
        stack.until(lambda: stack.server(2) in stack.supervisor.states(), "server 2 started")
        stack.kill("agent")
        stack.wait_for(plan)
        stack.until(lambda: load.counted()["2"] > 0, "traffic of version 2")
    assert load.failures() == {}


def test_a_killed_server_is_restarted_and_callers_lose_only_what_it_was_at(stack, load_on) -> None:
    stack.package(1, start_seconds=1.0)
    stack.serve({1: 100})
    with load_on(stack, callers=4) as load:
        time.sleep(0.5)
        killed = stack.kill(stack.server(1))
        stack.until(lambda: stack.pid(stack.server(1)) not in (0, killed), "server restarted")
        recovered = len(load.answers)
        stack.until(lambda: len(load.answers) > recovered + 50, "traffic after the restart")
    # what was under way at the moment of the kill, and for each caller perhaps another that went to
    # a connection of which Envoy did not know yet that it was dead
    failures = load.failures()
    assert sum(failures.values()) <= 2 * 4
    stack.until(lambda: stack.seen(1).is_ready, "ready again")
    # an answer that broke off after its first line is an error to its caller, a 200 to Envoy
    assert stack.seen(1).errors == failures["503"]
    assert set(failures) <= {"503", "IncompleteRead"}


def test_a_killed_envoy_comes_back_with_the_same_routes(stack) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 50, 2: 50})
    stack.predict(10)
    killed = stack.kill("envoy")
    stack.until(lambda: stack.pid("envoy") not in (0, killed), "envoy restarted")
    stack.until(lambda: stack.observation().generation == 1, "counters again")
    answered = stack.predict(50)
    assert answered.keys() == {"1", "2"}
    assert stack.seen(1).requests + stack.seen(2).requests == 50


def test_a_killed_supervisord_is_replaced_and_takes_its_children_anew(stack) -> None:
    stack.package(1)
    stack.serve({1: 100})
    old_server = stack.pid(stack.server(1))
    supervisord = int((stack.supervisor.home / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    stack.until(lambda: not stack.supervisor.is_running(), "supervisord dead")
    stack.supervisor.start()
    stack.until(lambda: stack.seen(1).is_ready, "version 1 ready again")
    assert stack.pid(stack.server(1)) != old_server
    assert stack.predict(10) == {"1": 10}
    stack.package(2)
    stack.serve({2: 100})
    assert stack.predict(10) == {"2": 10}


def test_pairs_are_counted_once_across_a_killed_agent(stack) -> None:
    stack.package(1, answer=3)
    stack.package(2, answer=4)
    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    stack.predict(20)
    stack.until(lambda: stack.seen(2).compared == 20, "20 pairs")
    stack.kill("agent")
    stack.predict(10)
    stack.until(lambda: stack.seen(2).compared >= 30, "30 pairs")
    time.sleep(0.6)
    assert (stack.seen(2).compared, stack.seen(2).disagreements) == (30, 30)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: (folder / "package.json").unlink(), "no PackageManifest there"),
        (lambda folder: (folder / "package.json").write_text("{"), "not a PackageManifest"),
        (lambda folder: (folder / "model").rmdir(), "expected a model there"),
    ],
)
def test_a_version_without_a_usable_package_is_told_in_words(stack, spoil, expected) -> None:
    stack.package(1)
    stack.serve({1: 100})
    stack.package(2)
    # between the check of the plan and the start of the server, as a careless clean-up would
    stack.kill("agent")
    stored = stack.client.plan("digits").model_copy(
        update={"generation": 2, "standby": (2,), "author": "test"}
    )
    spoil(stack.layout.version(2))
    stored.write(stack.layout.traffic_plan)
    stack.until(
        lambda: any(expected in problem for problem in stack.observation().problems), expected
    )
    assert stack.predict(5) == {"1": 5}


def test_a_server_that_keeps_dying_is_told_with_its_last_words(stack) -> None:
    stack.package(1)
    stack.package(2, exit_code=3)
    stack.serve({1: 100})
    stack.propose({1: 50, 2: 50})

    def is_told() -> bool:
        return any(
            "version 2" in problem and "the stand-in was told to end" in problem
            for problem in stack.observation().problems
        )

    stack.until(is_told, "the dying server's problem")
    assert stack.observation().generation == 1
    assert stack.predict(20) == {"1": 20}
    # a plan without it ends the problem
    stack.serve({1: 100})
    stack.until(lambda: not stack.observation().problems, "no problem left")
