"""What callers see when processes are killed: the agent, a server, Envoy, supervisord's memory."""

import json
import os
import signal
import time
from collections import Counter
from typing import Any

import pytest
from callers import Callers

from components.runs.agent_client import AgentClient
from contract.errors import ServiceUnavailableError
from contract.records.traffic import Arm, Shadow
from serving.agent.backends.envoy import admin_of
from serving.traffic.backend import Endpoint
from serving.traffic.envoy.admin import EnvoyAdmin


def arms(weights: dict[int, int]) -> tuple[Arm, ...]:
    """Return the arms of these versions, the first is stable, the second the canary."""
    pairs = zip(("stable", "canary"), weights.items(), strict=False)
    return tuple(Arm(name=n, version=v, weight_percent=w) for n, (v, w) in pairs)


def have_left(load: Callers, version: int) -> bool:
    """Tell whether a version, which had half of all requests, got none of the last 200."""
    answers = sorted(load.answers, key=lambda answer: answer.sent)[-200:]
    return len(answers) == 200 and str(version) not in {answer.who for answer in answers}


def is_told(stack, *words: str) -> bool:
    """Tell whether the problems that the agent tells hold all these words."""
    told = " ".join(stack.observation().problems)
    return all(one in told for one in words)


def test_a_killed_agent_costs_no_request_and_its_successor_goes_on(stack, load_on) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 50, 2: 50})
    before = {name: stack.pid(name) for name in (stack.server(1), stack.server(2), "envoy")}
    with load_on(stack) as load:
        stack.kill("agent")
        time.sleep(1.0)
        stack.serve({1: 100})  # the client waits for the successor
        stack.until(lambda: have_left(load, 2), "version 2 is left")
    assert load.failures() == {}
    assert before.items() <= {name: s.pid for name, s in stack.supervisor.states().items()}.items()


def test_an_agent_killed_before_a_version_is_ready_keeps_the_old_weights(stack, load_on) -> None:
    stack.package(1)
    may_start = stack.gated_package(2)
    stack.serve({1: 100})
    with load_on(stack) as load:
        plan = stack.propose({1: 50, 2: 50})
        stack.until(lambda: stack.server(2) in stack.supervisor.states(), "server 2 started")
        stack.kill("agent")
        stack.client.plan("digits")  # its successor answers
        may_start.touch()
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
    data_plane = EnvoyAdmin(Endpoint("127.0.0.1", stack.settings.envoy_port))
    stack.until(data_plane.is_there, "callers are heard again, later than the admin port")
    stack.until(lambda: stack.observation().generation == 1, "counters again")
    answered = stack.predict(50)
    assert answered.keys() == {"1", "2"}
    assert stack.seen(1).requests + stack.seen(2).requests == 50


def listeners(stack: Any, name: str) -> int:
    """Return how many listeners of an Envoy take connections; 0 while it starts."""
    admin = admin_of(stack.settings, name)
    try:
        found = admin.values(r"^listener_manager\.(workers_started|total_listeners_active)$")
    except ServiceUnavailableError:
        return 0
    has_started = found.get("listener_manager.workers_started") == 1
    return found["listener_manager.total_listeners_active"] if has_started else 0


def test_of_two_envoys_one_may_die(make_stack, load_on) -> None:
    """Callers lose what was under way at the one that is killed, and nobody waits for it."""
    stack = make_stack(envoys=2)
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100})
    with load_on(stack, callers=16) as load:
        time.sleep(0.5)
        wanted = listeners(stack, "envoy-2")
        assert wanted > 0
        for name in ("envoy", "envoy-2"):
            began, killed = len(load.answers), stack.kill(name)
            stack.until(lambda began=began: len(load.answers) > began + 100, "traffic goes on")
            stack.until(lambda n=name, k=killed: stack.pid(n) not in (0, k), "it is restarted")
            stack.until(lambda n=name: listeners(stack, n) == wanted, "it takes connections again")
        stack.serve({2: 100})
        stack.until(lambda: have_left(load, 1), "both follow the plan")
    assert sum(load.failures().values()) <= 2 * 16
    assert stack.seen(2).requests == load.counted()["2"], "what both have counted is added up"


def test_a_hung_envoy_stops_no_plan_and_is_replaced(make_stack) -> None:
    """What is published meanwhile is in force, also at the one that is started again."""
    stack = make_stack(envoys=2)
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100})
    hung = stack.pid("envoy-2")
    os.kill(hung, signal.SIGSTOP)
    stack.serve({2: 100})
    stack.until(lambda: stack.pid("envoy-2") not in (0, hung), "it is replaced")
    stack.until(lambda: listeners(stack, "envoy-2") > 0, "the new one serves")
    answers: Counter[str] = sum((stack.predict(1) for _ in range(40)), Counter())
    assert answers == {"2": 40}, "40 connections, which the two share"


def test_callers_notice_nothing_of_a_killed_supervisord_and_the_next_adopts_what_serves(
    make_stack, load_on
) -> None:
    stack = make_stack(envoys=2)
    stack.package(1)
    stack.serve({1: 100})
    names = ("envoy", "envoy-2", stack.server(1))
    serving = {name: stack.pid(name) for name in names}
    agent = stack.pid("agent")
    with load_on(stack, callers=4) as load:
        for _ in range(2):
            os.kill(int((stack.supervisor.home / "supervisord.pid").read_text()), signal.SIGKILL)
            stack.until(lambda: not stack.supervisor.is_running(), "supervisord dead")
            stack.supervisor.start()
            stack.until(lambda: stack.seen(1).is_ready, "version 1 ready")
            more = load.counted()["1"] + 20
            stack.until(lambda more=more: load.counted()["1"] > more, "traffic continues")
        assert {name: stack.pid(name) for name in names} == serving
        assert stack.pid("agent") != agent
        assert not load.failures()
    stack.kill(stack.server(1))
    stack.until(lambda: stack.pid(stack.server(1)) not in (0, serving[stack.server(1)]), "replaced")
    stack.package(2)
    stack.serve({2: 100})
    assert stack.predict(10) == {"2": 10}
    stack.until(lambda: stack.server(1) not in stack.supervisor.states(), "no longer needed")


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


def test_a_trial_without_a_judge_loses_its_traffic_whatever_else_dies(stack, load_on) -> None:
    """The agent is killed on the way, which lengthens a short lease by its grace at most."""
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100}, standby=(2,))
    stack.until(lambda: stack.seen(2).is_ready, "version 2 is ready")
    author = "run r2"
    plan = stack.client.plan("digits").model_copy(
        update={"arms": arms({1: 50, 2: 50}), "author": author, "lease_seconds": 6.0}
    )
    judge = AgentClient(f"http://127.0.0.1:{stack.settings.port}", "secret", author=author)
    with judge, load_on(stack) as load:
        stack.wait_for(judge.propose(plan))
        for _ in range(18):  # one and a half of the lease: each call renews it
            time.sleep(0.5)
            assert judge.plan("digits").trial == (2, 50)
        stack.kill("agent")
        stack.until(lambda: stack.client.plan("digits").trial is None, "the trial is withdrawn")
        stored = stack.client.plan("digits")
        stack.wait_for(stored)
        stack.until(lambda: have_left(load, 2), "version 2 is left")
    assert load.failures() == {}
    assert (stored.champion, stored.standby) == (1, (2,))
    assert stored.withdrawn.author == author


def test_a_hung_champion_is_replaced_and_its_callers_go_to_the_standby(stack, load_on) -> None:
    """Four callers, each of which loses what it had under way; then the champion is back."""
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100})
    stack.serve({2: 100}, standby=(1,))
    stack.until(lambda: stack.seen(1).is_ready, "the standby is ready")
    with load_on(stack, callers=4) as load:
        time.sleep(0.5)
        hung = stack.pid(stack.server(2))
        os.kill(hung, signal.SIGSTOP)
        stopped = time.monotonic()
        stack.until(lambda: load.counted()["1"] > 20, "the standby answers")
        moved = time.monotonic() - stopped
        stack.until(lambda: is_told(stack, "version 1 answers in its place"), "it is told")
        stack.until(lambda: stack.pid(stack.server(2)) not in (0, hung), "it is replaced")
        replaced = time.monotonic() - stopped
        at_home = load.counted()["2"]
        stack.until(lambda: load.counted()["2"] > at_home + 20, "the champion answers again")
    # three seconds of silence, and eight of them; on a machine that is busy with other tests
    assert moved < 20.0
    assert replaced < 30.0
    assert sum(load.failures().values()) <= 2 * 4
    stack.until(lambda: stack.observation().problems == (), "nothing left to tell")


def test_a_champion_whose_package_is_damaged_is_stood_in_for_also_by_a_new_agent(
    stack, load_on
) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100})
    stack.serve({2: 100}, standby=(1,))
    stack.until(lambda: stack.seen(1).is_ready, "the standby is ready")
    with load_on(stack, callers=2) as load:
        time.sleep(0.3)
        (stack.layout.version(2) / "behaviour.json").write_text(json.dumps({"exit_code": 3}))
        (stack.layout.version(2) / "package.json").write_text("{")
        stack.kill(stack.server(2))
        stack.until(lambda: load.counted()["1"] > 20, "the standby answers")
        moved = time.monotonic()
        stack.kill("agent")
        stack.client.plan("digits")
        words = ("its package cannot be read", "version 1 answers in its place")
        stack.until(lambda: is_told(stack, *words), "damage and stand-in")
        looked = time.monotonic()
        stack.until(lambda: len(load.since(looked)) > 100, "the new agent has traffic")
    assert sum(load.failures().values()) <= 2 * 2
    later = Counter(answer.who for answer in load.since(moved))
    assert later.keys() == {"1"}, "a new agent does not send callers back"
    assert stack.client.plan("digits").champion == 2
