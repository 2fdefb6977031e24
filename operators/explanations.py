"""What the Airflow UI says about a run, its groups and its tasks."""

from contract.schema.labels import LabelsConfig
from contract.schema.pipeline import PipelineConfig
from contract.steps import STEPS

TASKS = {
    "start": "Checks the overrides, freezes config and code for this run, looks for changes. "
    "An edit made later changes nothing in this run.",
    **{step.name: step.explanation for step in STEPS.values()},
    "approve": "Waits for the approval of a person: see 'Required actions'.",
}

LABEL_LOOP_TASKS = {
    "harvest": "Chooses rows of the prediction log since the last turn, and makes questions of "
    "them, which people answer on the label page.",
    "learn": "Makes one label of several people's answers, measures the versions by them, and "
    "stores the labels that are sure once enough of them are new. With labels.rolls_back it rolls "
    "back a version that they show to be worse than the one before.",
    "announce": "Starts a run of the pipeline on the labels that no run was started for.",
}

GROUPS = {
    "data": "From raw data to examples that a model can read.",
    "training": "Training and evaluation side by side.",
    "delivery": "From a blessed checkpoint to a version that serves.",
}


def of_pipeline(config: PipelineConfig) -> str:
    """Return the page that explains a pipeline's DAG, in Markdown."""
    heads = ", ".join(f"`{name}` ({head.task})" for name, head in config.heads.items())
    return f"""# {config.name}

{config.description}

Predicts {heads} from {len(config.features)} raw features.
Started {_occasions(config)}.

| part | what it does |
|---|---|
| data | {GROUPS["data"]} |
| training | {GROUPS["training"]} |
| delivery | {GROUPS["delivery"]} |

Made from `pipeline.yaml`; there is nothing to edit here. Each task is one process,
`python -m components.<task>`, and has succeeded only if it has written its own `result.json`.
To deploy a kept version again, trigger the DAG with its number. Figures are in MLflow, in the
experiment `{config.name}`, under the run's id.
"""


def label_loop_id(pipeline: str) -> str:
    """Return the id of the DAG of a pipeline's label loop."""
    return f"{pipeline}.labels"


def of_label_loop(pipeline: str, labels: LabelsConfig) -> str:
    """Return the page that explains the DAG of a label loop, in Markdown."""
    turns = f"by the schedule `{labels.cron}` (UTC) or" if labels.cron else "only"
    tasks = "\n".join(f"| {name} | {what} |" for name, what in LABEL_LOOP_TASKS.items())
    return f"""# The label loop of {pipeline}

It turns {turns} when somebody starts it. {labels.min_labels:,} new labels start a run of
`{pipeline}`. What the labels say of the versions is in the run's note and in the log of `learn`.

| task | what it does |
|---|---|
{tasks}

Made from the section `labels` of `pipeline.yaml`; a task may be cleared at any time.
"""


def _occasions(config: PipelineConfig) -> str:
    schedule = config.schedule
    cron = (
        [f"by the schedule `{schedule.cron}` (UTC) if something has changed"]
        if schedule.cron
        else []
    )
    labels = ["when labels are added"] if schedule.on_new_labels else []
    return ", ".join([*cron, *labels, "manually"])
