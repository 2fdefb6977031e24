"""The steps of a run, in one table. All else that speaks of steps is derived from it.

The chain in `dags/pipelines.py` is written out for its readers; a test compares it with this table.
Airflow's own tasks `start` and `approve` are not steps: they run no component.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class StepSpec:
    """What is known of a step before any pipeline is.

    Attributes:
        name: As in records, folders, MLflow runs and Airflow's tasks.
        component: The folder below `components/` whose process runs it.
        reads: The steps whose artifacts it reads.
        explanation: What it does, for people who see it in a page.
        looks_into: Further steps whose files it opens; what those read decides that they are there.
        is_beside_previous: Whether it runs side by side with the step before it in the table.
        is_continued: Whether a retry resumes its own output; else it starts from nothing.
        may_refuse: Whether its result can end the run as a success, with nothing after it.
        is_deploying: Whether it changes the traffic; a local run leaves it out unless asked.
        takes_helpers: Whether further processes may take part as replicas.
    """

    name: str
    component: str
    reads: tuple[str, ...]
    explanation: str
    looks_into: tuple[str, ...] = ()
    is_beside_previous: bool = False
    is_continued: bool = False
    may_refuse: bool = False
    is_deploying: bool = False
    takes_helpers: bool = False

    @property
    def module(self) -> str:
        """The module that is named like the step and holds its one public function."""
        stage = "" if self.component == self.name else f".{self.name}"
        return f"components.{self.component}{stage}.{self.name}"


_TABLE = (
    StepSpec(
        name="ingest",
        component="ingest",
        reads=(),
        explanation="Writes raw data as sharded TFRecords. A hash of each row's key decides its "
        "split, permanently. Bad rows go to a dead-letter file.",
    ),
    StepSpec(
        name="validate",
        component="validate",
        reads=("ingest",),
        explanation="Computes statistics and a schema, and compares them with the schema in force "
        "and with the last run.",
    ),
    StepSpec(
        name="transform",
        component="transform",
        reads=("ingest", "validate"),
        explanation="The full pass of tf.Transform over the train split. Its graph is part of the "
        "model, so that training and serving cannot differ.",
    ),
    StepSpec(
        name="train",
        component="train",
        reads=("transform",),
        explanation="Fits the model and publishes checkpoints. A retry resumes from the last "
        "complete checkpoint.",
        is_continued=True,
    ),
    StepSpec(
        name="evaluate",
        component="evaluate",
        reads=("transform",),
        explanation="Evaluates each checkpoint exactly once, beside training, and ends after the "
        "last one.",
        is_beside_previous=True,
        is_continued=True,
        takes_helpers=True,
    ),
    StepSpec(
        name="bless",
        component="bless",
        reads=("ingest", "transform", "train", "evaluate"),
        explanation="Chooses the best checkpoint and compares it on the test split with the "
        "version in service. A refusal ends the run as a success: nothing after it runs.",
        may_refuse=True,
    ),
    StepSpec(
        name="optimize",
        component="optimize",
        reads=("ingest", "bless"),
        explanation="Makes the SavedModel smaller and faster, pass by pass, with a ledger.",
    ),
    StepSpec(
        name="package",
        component="package",
        reads=("optimize",),
        looks_into=("ingest", "transform", "train", "bless"),
        explanation="Writes a directory that a server starts from. It is load-tested and compared "
        "with the offline model row by row.",
    ),
    StepSpec(
        name="canary",
        component="deploy",
        reads=("package",),
        explanation="Shadow traffic, then a rising share of the requests, judged by their counts. "
        "A worse version is rolled back; that, too, ends the run as a success.",
        is_continued=True,
        may_refuse=True,
        is_deploying=True,
    ),
    StepSpec(
        name="promote",
        component="deploy",
        reads=("package", "canary"),
        explanation="Makes the version the champion: all traffic, and the alias in MLflow.",
        is_deploying=True,
    ),
)
STEPS: Mapping[str, StepSpec] = MappingProxyType({step.name: step for step in _TABLE})
COMPONENTS = tuple(dict.fromkeys(step.component for step in _TABLE))
FIRST_OF_REDEPLOYMENT = "package"  # a kept version is packaged again, as a new one


def steps_of(component: str) -> tuple[str, ...]:
    """Return the steps that a component runs, in order: its stages."""
    return tuple(step.name for step in _TABLE if step.component == component)


def stages(*, is_redeployment: bool = False, is_deploying: bool = True) -> list[tuple[str, ...]]:
    """Return the steps of a run in order, those side by side together.

    Args:
        is_redeployment: Leave out what makes a new model: a kept version is deployed again.
        is_deploying: Whether the run may change the traffic; else those steps are left out.
    """
    found: list[tuple[str, ...]] = []
    for step in _TABLE:
        if step.is_deploying and not is_deploying:
            continue
        if is_redeployment and step.name not in redeploying_steps():
            continue
        if step.is_beside_previous and found:
            found[-1] += (step.name,)
        else:
            found.append((step.name,))
    return found


def redeploying_steps() -> tuple[str, ...]:
    """Return the steps that deploy a kept version again, in order."""
    names = tuple(STEPS)
    return names[names.index(FIRST_OF_REDEPLOYMENT) :]
