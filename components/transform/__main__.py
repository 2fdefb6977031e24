"""`python -m components.transform`: tf.Transform's full pass over the raw examples."""

from components.step import Outcome, Step, main
from contract.records.data import IngestRecord


def work(step: Step) -> Outcome:
    """Transform what the run ingested with the user's frozen `preprocessing_fn`."""
    from components.transform.transform import (  # imports TensorFlow and Beam
        EXAMPLES,
        GRAPH,
        RawData,
        transform,
    )

    ingested = step.upstream("ingest", IngestRecord)
    folder = step.run.step("ingest")
    shards = {split: [folder / name for name in names] for split, names in ingested.shards.items()}
    data = RawData(shards, ingested.examples)
    record = transform(step.config, step.run.frozen_pipeline, data, step.output)
    figures = {f"{split}_examples": float(count) for split, count in record.examples.items()}
    return Outcome(record, {"transform_graph": GRAPH, "examples": EXAMPLES}, figures)


if __name__ == "__main__":
    main("transform", work)
