"""Which of a job's processes this one is, as `TF_CONFIG` or `mpirun` tells it.

Every role runs the same command line. One of them is the chief: it claims the attempt, publishes
and writes `result.json`; the others take part and end when it ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from contract.errors import ConfigError

Kind = Literal["chief", "worker", "ps"]

# Open MPI's own names; MPICH's and Slurm's launchers speak PMI.
_MPI_RANKS = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))


@dataclass(frozen=True)
class Role:
    """One process of a job; `addresses` are `host:port` by kind, none of them under MPI.

    Attributes:
        kind: What it does.
        index: Its number among those of its kind; under MPI its rank.
        addresses: Where each process listens, by kind.
        mpi_size: Number of ranks under `mpirun`; 0 elsewhere.
    """

    kind: Kind = "chief"
    index: int = 0
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mpi_size: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether it is the one that publishes."""
        return self.kind == "chief"

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return len(self.members) == 1

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.kind}-{self.index}"

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        return self.addresses[self.kind][self.index]

    @property
    def members(self) -> tuple[str, ...]:
        """The names of all processes of the job, the chief first."""
        if self.mpi_size:
            return ("chief-0", *(f"worker-{rank}" for rank in range(1, self.mpi_size)))
        if not self.addresses:
            return ("chief-0",)
        return tuple(
            f"{kind}-{index}"
            for kind in ("chief", "worker", "ps")
            for index in range(len(self.addresses.get(kind, ())))
        )


def role_of(environment: Mapping[str, str]) -> Role:
    """Return this process's role; without `TF_CONFIG` and `mpirun` it is a chief by itself.

    A cluster without a `chief` has worker 0 as its chief, as TensorFlow has it; one of evaluators
    alone, its evaluator 0.

    Raises:
        ConfigError: If `TF_CONFIG` is not what TensorFlow's guides describe.
    """
    for rank_name, size_name in _MPI_RANKS:
        if rank_name in environment:
            rank, size = int(environment[rank_name]), int(environment.get(size_name, "1"))
            return Role("chief" if rank == 0 else "worker", rank, mpi_size=size)
    text = environment.get("TF_CONFIG", "")
    return _from_tf_config(text) if text.strip() else Role()


def _from_tf_config(text: str) -> Role:
    expected = (
        'expected {"cluster": {"chief": ["host:port"], "worker": [...], "ps": [...]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        found = json.loads(text)
        cluster = {kind: tuple(map(str, found["cluster"][kind])) for kind in found["cluster"]}
        kind, index = str(found["task"]["type"]), int(found["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"TF_CONFIG: {type(error).__name__}: {error}; {expected}"]) from error
    if not cluster.get("chief") and (several := _without_chief(cluster)):
        first, *others = cluster.pop(several)
        cluster |= {"chief": (first,), "worker": tuple(others)}
        if kind == several:
            kind, index = ("chief", 0) if index == 0 else ("worker", index - 1)
    if kind == "master":
        kind = "chief"
    if kind not in ("chief", "worker", "ps") or not 0 <= index < len(cluster.get(kind, ())):
        raise ConfigError([f"TF_CONFIG: task {kind} {index} is not in the cluster; {expected}"])
    if len(cluster["chief"]) != 1:
        raise ConfigError([f"TF_CONFIG: {len(cluster['chief'])} chiefs; expected one"])
    return Role(kind, index, cluster)  # type: ignore[arg-type]


def _without_chief(cluster: Mapping[str, tuple[str, ...]]) -> str:
    return next((kind for kind in ("worker", "evaluator") if cluster.get(kind)), "")
