"""The optimizer's state, spread over parameter servers and put together again.

Each server's optimizer makes its own variables, for the parts that it holds. A checkpoint holds
them as one process would have made them, so that a run can continue with another strategy.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from components.train.learning.learner import Learner
from components.train.parameter_servers.partition import Slice
from components.train.peers.wire import Array

_MARK = re.compile(r"__part(\d+)")


def mark(number: int) -> str:
    """Return what the name of a server's variable ends in: optimizers name theirs after it."""
    return f"__part{number}"


@dataclass
class Slots:
    """One server's part: `slices` are numbers in the list of all slices; `sources` say for each of
    its optimizer's variables which of the whole optimizer's it is (part) of, and of which slice.
    """

    slices: list[int]
    sources: list[tuple[int, int | None]]
    values: list[Array] = field(default_factory=list)

    def cut(self, optimizer: Any, slices: Sequence[Slice]) -> list[Array]:
        """Cut this server's state out of the whole optimizer's."""
        whole = [np.array(variable) for variable in optimizer.variables]
        return [
            whole[source] if number is None else slices[number].of(whole[source])
            for source, number in self.sources
        ]

    def keep(self, values: Sequence[Array]) -> None:
        """Take what a server holds now."""
        self.values = list(values)


def plan_slots(learner: Learner, slices: Sequence[Slice], servers: int) -> list[Slots]:
    """Find out which optimizer variables each server will make, by making small ones."""
    trained = learner.model.trainable_variables
    whole = _owners(learner, [(v.path, len(v.shape)) for v in trained])
    plans = []
    for server in range(servers):
        mine = [n for n, one in enumerate(slices) if one.server == server]
        of_trained = [n for n in mine if slices[n].variable < len(trained)]
        places = [trained[slices[n].variable] for n in of_trained]
        owners = _owners(learner, [(v.path, len(v.shape)) for v in places]) if places else []
        counts: dict[int | None, int] = {}
        sources: list[tuple[int, int | None]] = []
        for owner in owners:
            nth = counts[owner] = counts.get(owner, -1) + 1
            number = None if owner is None else of_trained[owner]
            variable = None if number is None else slices[number].variable
            same = [place for place, one in enumerate(whole) if one == variable]
            sources.append((same[nth], number))
        plans.append(Slots(mine, sources))
    return plans


def restore_slots(optimizer: Any, plans: Sequence[Slots], slices: Sequence[Slice]) -> None:
    """Put the servers' state into the whole optimizer's variables."""
    found: dict[int, list[tuple[int, Array]]] = {}
    for plan in plans:
        for (source, number), value in zip(plan.sources, plan.values, strict=True):
            start = 0 if number is None else slices[number].start
            found.setdefault(source, []).append((start, value))
            if number is None:
                found[source] = found[source][:1]  # a count or a rate: the same everywhere
    for source, parts in found.items():
        values = [value for _, value in sorted(parts, key=lambda part: part[0])]
        variable = optimizer.variables[source]
        variable.assign(values[0] if len(values) == 1 else np.concatenate(values))


def _owners(learner: Learner, places: Sequence[tuple[str, int]]) -> list[int | None]:
    """Return for each variable that an optimizer would make whose it is; None: the whole's."""
    optimizer = learner.optimizer.__class__.from_config(learner.optimizer.get_config())
    small = [
        server_variable(f"{path}{mark(number)}", np.zeros((1,) * rank, np.float32))
        for number, (path, rank) in enumerate(places)
    ]
    optimizer.build(small)
    marks = [_MARK.search(variable.path) for variable in optimizer.variables]
    return [None if found is None else int(found[1]) for found in marks]


def server_variable(path: str, value: Array) -> keras.Variable:
    """Make a variable under a path such as `dense/kernel`: some optimizers look at it."""
    scope, slash, name = path.partition("/")
    if not slash:
        return keras.Variable(value, name=path)
    with keras.name_scope(scope):
        return server_variable(name, value)
