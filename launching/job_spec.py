"""From a pipeline's config and a step's command line to a job of roles. Pure: no cluster, no clock.

The launchers turn a `JobSpec` into processes, pods, a TFJob, an MPIJob or a PyTorchJob; whichever
it is, each role runs the same command, and `TF_CONFIG` tells it who and where the others are.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from contract.command import StepCommand
from contract.layout import PipelineLayout, RunLayout
from contract.pod_storage import FolderAccess, step_access
from contract.schema.cluster import JobConfig, Role
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig
from contract.storage import local_path

_NAME_CHARACTERS = 20


@dataclass(frozen=True)
class Replica:
    """One process of a job."""

    role: Role
    index: int

    def __str__(self) -> str:
        return f"{self.role}-{self.index}"


Address = Callable[[Replica], str]  # host:port at which the others reach a replica


class JobSpec(BaseModel):
    """What to run, and who takes part. The chief's success is the job's."""

    model_config = ConfigDict(frozen=True)

    name: str
    step: str
    command: tuple[str, ...]
    replicas: dict[Role, int]
    replaceable: frozenset[Role] = frozenset()
    labels: dict[str, str] = {}
    is_mpi: bool = False
    storage: tuple[FolderAccess, ...] = ()  # what its pods may change
    hangs: str = ""  # the folder in which the chief names processes that hang; empty: it does not
    settings: JobConfig = JobConfig()

    def members(self) -> Iterator[Replica]:
        """Yield every process of the job, the chief first."""
        for role, count in self.replicas.items():
            for index in range(count):
                yield Replica(role, index)

    @property
    def chief(self) -> Replica:
        """The replica that decides: it alone writes the result."""
        return next(self.members())

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to find: one process, which needs no TF_CONFIG."""
        return sum(self.replicas.values()) == 1


def job_name(dag_id: str, run_id: str, task_id: str, generation: int) -> str:
    """Return the one name that this generation of a task's job can have, a DNS label.

    Two attempts that both create it collide, which means "adopt". Clearing a task starts a new
    generation. At most 49 characters: `-worker-123-99` still fits a label's 63.
    """
    parts = "\0".join((dag_id, run_id, task_id))
    digest = hashlib.sha256(parts.encode()).hexdigest()[:10]
    words = (_dns(dag_id)[:_NAME_CHARACTERS].strip("-"), _dns(task_id)[:12].strip("-"))
    return f"{'-'.join(words)}-{digest}-g{generation}"


def training_job(
    name: str, command: StepCommand, train: TrainConfig, settings: JobConfig, python: str
) -> JobSpec:
    """Return the job that trains with the config's strategy, by our trainer or the user's own."""
    return JobSpec(
        name=name,
        step=command.step,
        command=tuple(command.arguments(python, settings.command)),
        replicas=_replicas(train),
        replaceable=train.replaceable_kinds,
        is_mpi=train.strategy == "mpi",
        storage=_storage(command),
        hangs=str(RunLayout(local_path(command.root), command.pipeline, command.run_id).hangs),
        settings=settings,
    )


def evaluation_job(
    name: str, command: StepCommand, evaluators: int, settings: JobConfig, python: str
) -> JobSpec:
    """Return the job that judges checkpoints: plain pods, of which each can be replaced alone."""
    return JobSpec(
        name=name,
        step=command.step,
        command=tuple(command.arguments(python)),
        replicas={"evaluator": evaluators},
        replaceable=frozenset({"evaluator"}),
        storage=_storage(command),
        settings=settings.model_copy(update={"kind": "pods"}),
    )


def job_of(
    name: str, command: StepCommand, config: PipelineConfig, settings: JobConfig, python: str
) -> JobSpec | None:
    """Return the job that a step is, or None if it is one process by nature."""
    if command.step == "train":
        job = training_job(name, command, config.train, settings, python)
    elif command.step == "evaluate":
        job = evaluation_job(name, command, config.evaluate.evaluators, settings, python)
    else:
        return None
    queue = _queue(config.evaluate.queue_uri)
    return job.model_copy(update={"storage": (*job.storage, *queue)})


def tf_config(job: JobSpec, replica: Replica, address: Address) -> str:
    """Return the TF_CONFIG of one replica, as TensorFlow's distribution guides define it."""
    cluster: dict[str, list[str]] = {}
    for member in job.members():
        cluster.setdefault(member.role, []).append(address(member))
    task = {"type": replica.role, "index": replica.index}
    return json.dumps({"cluster": cluster, "task": task})


def in_words(replicas: Mapping[Role, int]) -> str:
    """Return who takes part, as in '1 chief, 2 worker'."""
    return ", ".join(f"{count} {role}" for role, count in replicas.items())


def _replicas(train: TrainConfig) -> dict[Role, int]:
    if train.strategy == "multi_worker" and train.workers > 1:
        return {"chief": 1, "worker": train.workers - 1}  # the chief is one of them
    if train.strategy == "parameter_server":
        return {"chief": 1, "worker": train.workers, "ps": train.parameter_servers}
    if train.strategy == "mpi":
        return {"worker": train.workers}
    return {"chief": 1}


def _storage(command: StepCommand) -> tuple[FolderAccess, ...]:
    layout = PipelineLayout(local_path(command.root), command.pipeline)
    return step_access(layout, command.step)


def _queue(uri: str) -> tuple[FolderAccess, ...]:
    """Return the folder of an evaluation queue that lies elsewhere on a volume."""
    if not uri or ("://" in uri and not uri.startswith("file://")):
        return ()
    return (FolderAccess(path=str(local_path(uri))),)


def _dns(text: str) -> str:
    return re.sub(r"^[^a-z]+|[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
