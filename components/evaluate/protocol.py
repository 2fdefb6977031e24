"""The evaluation queue's protocol, as a pure state machine: what an evaluator does next, and why.

Evaluators share nothing but storage. A checkpoint is there once its manifest is (written last). To
judge it, an evaluator creates the next number in the checkpoint's row of leases; a lease whose
holder has not moved for a while is given up for lost by those who watched it, and the next number
taken. The verdict is created under a name that only one can create: leases save work, they do not
decide. That training has ended is looked up *before* checkpoints are listed, so that whatever the
list lacks then will never come. The owner (replica 0) announces verdicts, its own and others', to
MLflow and to the trainer, and ends last.

`Worker` carries the actions out on real storage; the tests carry them out in every order, with a
crash at every point.
"""

from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    """What an evaluator can do; each is one atomic operation on storage, or none."""

    LOOK_IF_ENDED = "look if training has ended -> bool"
    LIST_CHECKPOINTS = "list the published checkpoints -> frozenset[Checkpoint]"
    LIST_VERDICTS = "list the steps that have a verdict -> frozenset[int]"
    ANNOUNCE = "make a verdict known -> None"
    LOOK_AT_LEASE = "look who judges a checkpoint -> Lease"
    CLAIM = "create a lease -> bool, whether it was created"
    JUDGE = "judge -> bool, False if the checkpoint is broken or gone"
    CHECK_LEASE = "look if the lease is still the newest -> bool"
    PUBLISH = "create the verdict -> bool, whether it was created"
    RELEASE = "give the lease back -> None"
    WAIT = "wait a while -> None"
    END = "all is done"


class Checkpoint(NamedTuple):
    """A published checkpoint; `digest` tells it from another one of the same step."""

    step: int
    digest: str


class Lease(NamedTuple):
    """The newest lease of a checkpoint, 0 if there is none, and whether the next may be taken."""

    token: int
    is_free: bool


class Action(NamedTuple):
    """What to do next, and on which checkpoint and lease."""

    kind: Kind
    checkpoint: Checkpoint = Checkpoint(0, "")
    token: int = 0


class State(NamedTuple):
    """Everything that an evaluator remembers; it begins again after a crash.

    Attributes:
        is_owner: Announces verdicts.
        action: What it does now.
        announced: Steps whose verdict needs no announcement (any more).
        broken: Checkpoints that it could not judge.
        has_ended: Training had ended before the checkpoints of this round were listed.
        listed: The checkpoints of this round, until verdicts are listed too.
        waiting: Those without a verdict that it has yet to look at, steps rising.
        to_announce: Steps.
        is_any_held: Another one judges a checkpoint of this round.
        has_worked: It gave a verdict in this round.
    """

    is_owner: bool
    action: Action = Action(Kind.LOOK_IF_ENDED)
    announced: frozenset[int] = frozenset()
    broken: frozenset[Checkpoint] = frozenset()
    has_ended: bool = False
    listed: frozenset[Checkpoint] = frozenset()
    waiting: tuple[Checkpoint, ...] = ()
    to_announce: tuple[int, ...] = ()
    is_any_held: bool = False
    has_worked: bool = False


def advance(state: State, reply: Any) -> State:
    """Return the state after its action was carried out with this reply (see `Kind`)."""
    kind, checkpoint, token = state.action
    match kind:
        case Kind.LOOK_IF_ENDED:
            return state._replace(has_ended=reply, action=Action(Kind.LIST_CHECKPOINTS))
        case Kind.LIST_CHECKPOINTS:
            return state._replace(listed=reply, action=Action(Kind.LIST_VERDICTS))
        case Kind.LIST_VERDICTS:
            return _next(_sorted_out(state, reply))
        case Kind.ANNOUNCE:
            announced = state.announced | {checkpoint.step}
            return _next(state._replace(announced=announced, to_announce=state.to_announce[1:]))
        case Kind.LOOK_AT_LEASE if reply.is_free:
            return state._replace(action=Action(Kind.CLAIM, checkpoint, reply.token + 1))
        case Kind.CLAIM | Kind.CHECK_LEASE if reply:
            then = Kind.JUDGE if kind is Kind.CLAIM else Kind.PUBLISH
            return state._replace(action=Action(then, checkpoint, token))
        case Kind.LOOK_AT_LEASE | Kind.CLAIM | Kind.CHECK_LEASE:
            return _next(state._replace(is_any_held=True, waiting=state.waiting[1:]))
        case Kind.JUDGE if reply:
            return state._replace(action=Action(Kind.CHECK_LEASE, checkpoint, token))
        case Kind.JUDGE:
            broken = state.broken | {checkpoint}
            return state._replace(broken=broken, action=Action(Kind.RELEASE, checkpoint, token))
        case Kind.PUBLISH:
            told = (*state.to_announce, checkpoint.step) if state.is_owner else ()
            rest = state.waiting[1:]
            return _next(state._replace(has_worked=True, waiting=rest, to_announce=told))
        case Kind.RELEASE:
            return _next(state._replace(waiting=state.waiting[1:]))
        case Kind.WAIT:
            return _new_round(state)
        case Kind.END:
            return state


def _sorted_out(state: State, judged: frozenset[int]) -> State:
    waiting = {one for one in state.listed if one.step not in judged} - state.broken
    unknown = judged - state.announced if state.is_owner else ()
    return state._replace(
        listed=frozenset(), waiting=tuple(sorted(waiting)), to_announce=tuple(sorted(unknown))
    )


def _next(state: State) -> State:
    if state.to_announce:
        told = Checkpoint(state.to_announce[0], "")
        return state._replace(action=Action(Kind.ANNOUNCE, told))
    if state.waiting:
        return state._replace(action=Action(Kind.LOOK_AT_LEASE, state.waiting[0]))
    if state.has_worked:
        return _new_round(state)
    is_done = state.has_ended and not state.is_any_held
    return state._replace(action=Action(Kind.END if is_done else Kind.WAIT))


def _new_round(state: State) -> State:
    return State(state.is_owner, announced=state.announced, broken=state.broken)
