"""`python -m components.train`: fit the model and publish checkpoints."""

from components.step import Outcome, Step, main
from contract.records import TransformRecord


def work(step: Step) -> Outcome:
    """Adapt the step to `train`."""
    from components.train.train import TrainingJob, train  # imports TensorFlow

    transformed = step.upstream("transform", TransformRecord)
    step.tracker.log_params({**step.config.train.model_dump()})
    record = train(TrainingJob(step.config, step.run, transformed, step.attempt, step.tracker))
    return Outcome(
        record=record,
        artifacts={"checkpoints": "checkpoints", "ended": "ended.json"},
        metrics={"last_step": record.last_step, "parameters": record.parameters},
    )


if __name__ == "__main__":
    main("train", work)
