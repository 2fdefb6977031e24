"""Which task, generation and attempt drives a job: what names and labels in a cluster come from."""

from dataclasses import dataclass
from typing import Any

from launching.cluster.manifests import task_labels
from launching.job_spec import job_name


@dataclass(frozen=True)
class TaskIdentity:
    """One attempt at one generation of a task of a run.

    `attempt` is the fencing token: Airflow's try number, which rises with every try and every
    clearing. `generation` rises with each clearing only: a retry continues with the job that is
    there, a cleared task starts a new one.
    """

    dag_id: str
    run_id: str
    task_id: str
    generation: int
    attempt: int

    @classmethod
    def of(cls, context: Any, retries: int) -> "TaskIdentity":
        """Read it from Airflow's context; `retries` are the task's.

        Clearing sets `max_tries` to the try number plus the retries; before it is the retries.
        """
        task = context["ti"]
        generation = max(0, task.max_tries - retries)
        return cls(task.dag_id, task.run_id, task.task_id, generation, task.try_number)

    @property
    def job_name(self) -> str:
        return job_name(self.dag_id, self.run_id, self.task_id, self.generation)

    @property
    def labels(self) -> dict[str, str]:
        return task_labels(self.dag_id, self.run_id, self.task_id)
