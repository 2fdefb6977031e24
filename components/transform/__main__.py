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

    warnings = _look_at_model(step)
    ingested = step.upstream("ingest", IngestRecord)
    folder = step.run.step("ingest")
    shards = {split: [folder / name for name in names] for split, names in ingested.shards.items()}
    data = RawData(shards, ingested.examples)
    record = transform(step.config, step.run.frozen_pipeline, data, step.output)
    figures = {f"{split}_examples": float(count) for split, count in record.examples.items()}
    artifacts = {"transform_graph": GRAPH, "examples": EXAMPLES}
    return Outcome(record, artifacts, figures, reasons=warnings)


def _look_at_model(step: Step) -> tuple[str, ...]:
    """Build the model on placeholders before the hours that its training may take; warn."""
    from components.models.model_hooks import MODEL_FILE
    from components.models.model_look import look_at_model
    from components.transform.preprocessing import load_preprocessing

    code = step.run.frozen_pipeline
    if not (code / MODEL_FILE).exists():
        return ()
    warnings = look_at_model(step.config, code, load_preprocessing(code))
    for warning in warnings:
        log.warning("transform: %s", warning)
    return warnings


if __name__ == "__main__":
    main("transform", work)
