"""What the Airflow UI says about a run, its groups and its tasks."""

from contract.schema.pipeline import PipelineConfig
from contract.steps import STEPS

TASKS = {
    "start": "Checks the overrides, freezes config and code for this run, looks for changes. "
    "An edit made later changes nothing in this run.",
    **{step.name: step.explanation for step in STEPS.values()},
    "approve": "Waits for the approval of a person: see 'Required actions'.",
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


def _occasions(config: PipelineConfig) -> str:
    schedule = config.schedule
    cron = (
        [f"by the schedule `{schedule.cron}` (UTC) if something has changed"]
        if schedule.cron
        else []
    )
    labels = ["when labels are added"] if schedule.on_new_labels else []
    return ", ".join([*cron, *labels, "manually"])
