"""`python -m components.transform`: tf.Transform's full pass over the raw examples."""

import logging

from components.runs.step import Outcome, Step, main
from contract.records.data import IngestRecord

log = logging.getLogger("slipway")


def work(step: Step) -> Outcome:
    """Transform what the run ingested with the user's frozen `preprocessing_fn`."""
    from components.transform.transform import (  # imports TensorFlow and Beam
        EXAMPLES,
        GRAPH,
        RawData,
        transform,
    )

    _look_at_model(step)
    ingested = step.upstream("ingest", IngestRecord)
    folder = step.run.step("ingest")
    shards = {split: [folder / name for name in names] for split, names in ingested.shards.items()}
    data = RawData(shards, ingested.examples)
    record = transform(step.config, step.run.frozen_pipeline, data, step.output)
    figures = {f"{split}_examples": float(count) for split, count in record.examples.items()}
    return Outcome(record, {"transform_graph": GRAPH, "examples": EXAMPLES}, figures)


def _look_at_model(step: Step) -> None:
    """Build the model on placeholders before the hours that its training may take."""
    from components.models.model_hooks import MODEL_FILE
    from components.models.model_look import look_at_model
    from components.transform.preprocessing import load_preprocessing

    code = step.run.frozen_pipeline
    if (code / MODEL_FILE).exists():
        for warning in look_at_model(step.config, code, load_preprocessing(code)):
            log.warning("transform: %s", warning)


if __name__ == "__main__":
    main("transform", work)
