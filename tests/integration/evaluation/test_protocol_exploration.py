"""The queue's protocol in every order of events, with crashes at every point, within bounds.

A world is a trainer, evaluators that run `protocol.advance`, and the storage and MLflow between
them. From the first world all others are found; in each the promises must hold, and from each an
end must be within reach in which all is judged and announced: nothing can get stuck.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from components.evaluate.protocol import Action, Checkpoint, Kind, Lease, State, advance

ABSENT, HALF, WHOLE, BROKEN, REMOVED = range(5)


class LeaseRow(NamedTuple):
    """The newest lease of a checkpoint; `holder` is (replica, attempt)."""

    token: int = 0
    holder: tuple[int, int] = (-1, 0)
    is_released: bool = False


class Process(NamedTuple):
    """An evaluator; `unsent` verdicts are queued for MLflow and lost with the process."""

    replica: int
    attempt: int
    state: State
    unsent: frozenset[int] = frozenset()

    @property
    def is_done(self) -> bool:
        return self.state.action.kind is Kind.END

    @property
    def holder(self) -> tuple[int, int]:
        return (self.replica, self.attempt)


class World(NamedTuple):
    """All there is; steps count from 1, tuples by step from 0."""

    checkpoints: tuple[int, ...]
    leases: tuple[LeaseRow, ...]
    verdicts: tuple[int, ...]
    logged: frozenset[int]
    has_ended: bool
    processes: tuple[Process, ...]
    attempts: tuple[int, ...]  # newest by replica
    crashes: int  # that may still happen
    mistakes: int  # a holder that lives may be thought lost so often
    breaks: int  # checkpoints that may still be published broken
    overtakes: int  # owners that may be started while an earlier one lives


def first_world(steps: int, replicas: int, **budgets: int) -> World:
    limits = {"crashes": 0, "mistakes": 0, "breaks": 0, "overtakes": 0} | budgets
    return World(
        checkpoints=(ABSENT,) * steps,
        leases=(LeaseRow(),) * steps,
        verdicts=(0,) * steps,
        logged=frozenset(),
        has_ended=False,
        processes=tuple(Process(r, 1, State(r == 0)) for r in range(replicas)),
        attempts=(1,) * replicas,
        **limits,
    )


def put(values: tuple, index: int, value: object) -> tuple:
    return (*values[:index], value, *values[index + 1 :])


# --- what may happen ----------------------------------------------------------------------------


def successors(world: World) -> Iterator[World]:
    yield from trainer_moves(world)
    for index, process in enumerate(world.processes):
        if not process.is_done:
            yield from evaluator_moves(world, index, process)


def trainer_moves(world: World) -> Iterator[World]:
    if world.has_ended:
        return
    at = next((i for i, c in enumerate(world.checkpoints) if c in (ABSENT, HALF)), None)
    if at is None:
        yield world._replace(has_ended=True)
    elif world.checkpoints[at] == ABSENT:
        yield world._replace(checkpoints=put(world.checkpoints, at, HALF))
    else:
        yield world._replace(checkpoints=put(world.checkpoints, at, WHOLE))
        if world.breaks:
            broken = put(world.checkpoints, at, BROKEN)
            yield world._replace(checkpoints=broken, breaks=world.breaks - 1)
    for step, verdicts in enumerate(world.verdicts):  # the keep policy
        is_newest = not any(world.checkpoints[step + 1 :])
        if verdicts and world.checkpoints[step] == WHOLE and not is_newest:
            yield world._replace(checkpoints=put(world.checkpoints, step, REMOVED))
    if world.crashes:  # it resumes from the newest whole one and makes the later ones again
        kept = max((i for i, c in enumerate(world.checkpoints) if c == WHOLE), default=-1)
        again = world.checkpoints[: kept + 1] + (ABSENT,) * (len(world.checkpoints) - kept - 1)
        if again != world.checkpoints:
            yield world._replace(checkpoints=again, crashes=world.crashes - 1)


def evaluator_moves(world: World, index: int, process: Process) -> Iterator[World]:
    for changed, reply in PARTS["outcomes"](world, process):
        if reply is OVERTAKEN:
            gone = world.processes[:index] + world.processes[index + 1 :]
            yield world._replace(processes=gone)
            continue
        state, unsent = PARTS["advance"](process.state, reply), process.unsent
        if state.action.kind is Kind.WAIT:  # touches nothing: no other order can tell
            state = advance(state, None)
        if process.state.action.kind is Kind.ANNOUNCE:
            unsent = unsent | {process.state.action.checkpoint.step}
        if state.action.kind is Kind.END:  # MLflow is flushed before a process ends
            changed, unsent = changed._replace(logged=changed.logged | unsent), frozenset()
        moved = process._replace(state=state, unsent=unsent)
        yield changed._replace(processes=put(world.processes, index, moved))
    if process.unsent:  # the background thread sends
        sent = process._replace(unsent=frozenset())
        yield world._replace(
            logged=world.logged | process.unsent, processes=put(world.processes, index, sent)
        )
    is_newest = process.attempt == world.attempts[process.replica]
    if world.crashes and is_newest:
        again = restarted(world, process)
        others = put(world.processes, index, again)
        yield world._replace(
            processes=others,
            attempts=put(world.attempts, process.replica, again.attempt),
            crashes=world.crashes - 1,
        )
    if world.overtakes and is_newest and process.replica == 0:
        again = restarted(world, process)
        yield world._replace(
            processes=(*world.processes, again),
            attempts=put(world.attempts, 0, again.attempt),
            overtakes=world.overtakes - 1,
        )


def restarted(world: World, process: Process) -> Process:
    announced = world.logged if process.replica == 0 else frozenset()
    state = State(process.replica == 0, announced=announced)
    return Process(process.replica, process.attempt + 1, state)


OVERTAKEN = object()


def outcomes(world: World, process: Process) -> Iterator[tuple[World, object]]:
    """Yield the world after the process's action, and the reply to it, for all that may be."""
    action: Action = process.state.action
    at = action.checkpoint.step - 1
    is_overtaken = process.attempt < world.attempts[process.replica]
    if is_overtaken and action.kind in (Kind.LOOK_IF_ENDED, Kind.CHECK_LEASE, Kind.ANNOUNCE):
        yield world, OVERTAKEN
        return
    match action.kind:
        case Kind.LOOK_IF_ENDED:
            yield world, world.has_ended
        case Kind.LIST_CHECKPOINTS:
            digests = {WHOLE: "whole", BROKEN: "broken"}
            yield (
                world,
                frozenset(
                    Checkpoint(i + 1, digests[c])
                    for i, c in enumerate(world.checkpoints)
                    if c in digests
                ),
            )
        case Kind.LIST_VERDICTS:
            yield world, frozenset(i + 1 for i, count in enumerate(world.verdicts) if count)
        case Kind.LOOK_AT_LEASE:
            yield from looks(world, process, at)
        case Kind.CLAIM:
            row = world.leases[at]
            if row.token < action.token:
                claimed = LeaseRow(action.token, process.holder)
                yield world._replace(leases=put(world.leases, at, claimed)), True
            else:
                yield world, False
        case Kind.JUDGE:
            yield world, world.checkpoints[at] == WHOLE
        case Kind.CHECK_LEASE:
            yield world, world.leases[at].token == action.token
        case Kind.PUBLISH:
            if world.verdicts[at]:
                yield world, False
            else:
                yield world._replace(verdicts=put(world.verdicts, at, 1)), True
        case Kind.RELEASE:
            row = world.leases[at]
            if row.token == action.token:
                row = row._replace(is_released=True)
            yield world._replace(leases=put(world.leases, at, row)), None
        case _:
            yield world, None


def looks(world: World, process: Process, at: int) -> Iterator[tuple[World, Lease]]:
    row = world.leases[at]
    if row.token == 0 or row.is_released:
        yield world, Lease(row.token, is_free=not world.verdicts[at])
    elif row.holder[0] == process.replica:
        yield world, Lease(row.token, is_free=row.holder[1] <= process.attempt)
    else:
        yield world, Lease(row.token, is_free=False)
        lives = {other.holder for other in world.processes if not other.is_done}
        if row.holder not in lives:
            yield world, Lease(row.token, is_free=True)
        elif world.mistakes:
            yield world._replace(mistakes=world.mistakes - 1), Lease(row.token, is_free=True)


# What is explored; tests put broken parts in their place.
PARTS: dict[str, Callable] = {"advance": advance, "outcomes": outcomes}


# --- what must hold -----------------------------------------------------------------------------


def check(before: World, after: World) -> None:
    """Assert the promises over one move."""
    for step, (was, now) in enumerate(zip(before.verdicts, after.verdicts, strict=True)):
        assert now <= 1
        assert now >= was
        if now > was:
            assert before.checkpoints[step] in (WHOLE, REMOVED), "a verdict on half a checkpoint"
    for process in after.processes:
        if process.is_done and process.attempt == after.attempts[process.replica]:
            assert after.has_ended
            assert all(
                count or checkpoint == BROKEN
                for count, checkpoint in zip(after.verdicts, after.checkpoints, strict=True)
            )
            if process.replica == 0:
                assert after.logged == {i + 1 for i, count in enumerate(after.verdicts) if count}


def explore(start: World) -> tuple[int, set[World]]:
    """Visit all worlds; return how many there are, and those from which no good end is in reach."""
    number, found, edges = {start: 0}, [start], []
    for world in found:  # grows while it is walked
        row = []
        for after in successors(world):
            check(world, after)
            if after not in number:
                number[after] = len(found)
                found.append(after)
            row.append(number[after])
        edges.append(row)
    return len(found), {found[i] for i in stuck(found, edges)}


def stuck(found: list[World], edges: list[list[int]]) -> set[int]:
    back: list[list[int]] = [[] for _ in found]
    for source, targets in enumerate(edges):
        for target in targets:
            back[target].append(source)
    ends = [i for i, world in enumerate(found) if all(p.is_done for p in world.processes)]
    reaching, waiting = set(ends), list(ends)
    while waiting:
        for source in back[waiting.pop()]:
            if source not in reaching:
                reaching.add(source)
                waiting.append(source)
    return set(range(len(found))) - reaching


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(first_world(2, 2, mistakes=1), id="two evaluators, a slow one"),
        pytest.param(first_world(2, 2, crashes=1), id="two evaluators, one crash"),
        pytest.param(first_world(2, 1, crashes=2, breaks=1), id="broken checkpoint, two crashes"),
        pytest.param(first_world(1, 2, crashes=1, breaks=1, mistakes=1), id="the last checkpoint"),
        pytest.param(first_world(1, 1, crashes=1, overtakes=1), id="two owners at once"),
    ],
)
def test_every_order_of_events_judges_each_checkpoint_once_and_comes_to_an_end(start):
    worlds, without_end = explore(start)
    assert worlds > 500
    assert without_end == set()


# --- and would it notice? -----------------------------------------------------------------------


def ends_early(state: State, reply: object) -> State:
    """End though another one still judges."""
    after = advance(state, reply)
    if after.action.kind is Kind.WAIT and after.has_ended:
        return after._replace(action=Action(Kind.END))
    return after


def forgets_the_dead(state: State, reply: Any) -> State:
    """Announce what was judged by oneself only, not what an earlier attempt has left."""
    if state.action.kind is Kind.LIST_VERDICTS:
        return advance(state._replace(announced=state.announced | reply), reply)
    return advance(state, reply)


@pytest.mark.parametrize("broken", [ends_early, forgets_the_dead])
def test_a_broken_protocol_is_caught(broken, monkeypatch):
    monkeypatch.setitem(PARTS, "advance", broken)
    with pytest.raises(AssertionError):
        explore(first_world(1, 2, crashes=1))


def test_verdicts_that_can_be_overwritten_are_caught(monkeypatch):
    def overwriting(world: World, process: Process) -> Iterator[tuple[World, object]]:
        if process.state.action.kind is Kind.PUBLISH:
            at = process.state.action.checkpoint.step - 1
            more = put(world.verdicts, at, world.verdicts[at] + 1)
            yield world._replace(verdicts=more), True
        else:
            yield from outcomes(world, process)

    monkeypatch.setitem(PARTS, "outcomes", overwriting)
    with pytest.raises(AssertionError):
        explore(first_world(1, 2, mistakes=1))
