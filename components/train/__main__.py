"""`python -m components.train`: fit the model and publish checkpoints."""

from components.runs.step import Outcome, Step, main
from contract.layout import TRAINING_ENDED, RunLayout
from contract.records.data import TransformRecord
from contract.roles import Role


def work(step: Step) -> Outcome:
    """Adapt the step to `train`."""
    from components.train.peers.collectives import leave_mpi
    from components.train.train import TrainingJob, train  # imports TensorFlow

    transformed = step.upstream("transform", TransformRecord)
    step.tracker.log_params({**step.config.train.model_dump()})
    record = train(
        TrainingJob(step.config, step.run, transformed, step.attempt, step.tracker, step.role)
    )
    if record.start is not None:
        begun = {"started_from_version": record.start.version, "start_reason": record.start.reason}
        step.tracker.log_params(begun)
    leave_mpi()
    return Outcome(
        record=record,
        artifacts={"checkpoints": "checkpoints", "ended": TRAINING_ENDED},
        metrics={"last_step": record.last_step, "parameters": record.parameters},
    )


def follow(role: Role, run: RunLayout) -> None:
    """Take part as another role than the chief."""
    from components.train.member import take_part  # imports TensorFlow
    from components.train.peers.collectives import leave_mpi

    take_part(role, run)
    leave_mpi()


if __name__ == "__main__":
    main("train", work, follow)
