"""What the Airflow UI says about a run, its groups and its tasks."""

from contract.schema.pipeline import PipelineConfig

TASKS = {
    "start": "Checks the overrides, freezes config and code for this run, looks for news. "
    "An edit made later changes nothing in this run.",
    "ingest": "Raw data to sharded TFRecords; a hash of each row's key decides its split for ever. "
    "Bad rows go to a dead-letter file.",
    "validate": "Statistics and schema, compared with the schema in force and with the last run.",
    "transform": "The full pass of tf.Transform over the train part; its graph goes with the "
    "model, so that training and serving cannot differ.",
    "train": "Fits the model and publishes checkpoints. A retry goes on from the last whole one.",
    "evaluate": "Judges each checkpoint once, beside training, and ends after the last.",
    "bless": "Chooses the best checkpoint and judges it on the test part against the version that "
    "serves now. A refusal ends the run as a success: nothing after it runs.",
    "optimize": "Makes the SavedModel smaller and faster, pass by pass, with a ledger.",
    "package": "A directory that a server starts from, load-tested, compared with the offline "
    "model row by row.",
    "canary": "Shadow, then a rising share of the traffic, judged by counted requests. A worse "
    "version is rolled back; that, too, ends the run as a success.",
    "approve": "Waits for a person: see 'Required actions'.",
    "promote": "Makes the version the champion: all traffic, and the alias in MLflow.",
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
`python -m components.<task>`, and has succeeded only if it left a `result.json` of its own.
To deploy a kept version again, trigger the DAG with its number. Figures are in MLflow, in the
experiment `{config.name}`, under the run's id.
"""


def _occasions(config: PipelineConfig) -> str:
    schedule = config.schedule
    cron = [f"by the schedule `{schedule.cron}` (UTC) if there is news"] if schedule.cron else []
    labels = ["when labels are added"] if schedule.on_new_labels else []
    return ", ".join([*cron, *labels, "by hand"])
