"""`python -m components.evaluate`: judge every published checkpoint exactly once."""

from components.runs.step import Outcome, Step, help_step, main
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.records.data import TransformRecord
from contract.roles import Role


def work(step: Step) -> Outcome:
    """Adapt the step to `evaluate`."""
    from components.evaluate.evaluate import Evaluation, evaluate  # imports TensorFlow

    transformed = step.upstream("transform", TransformRecord)
    record, reasons = evaluate(
        Evaluation(
            step.config, step.run, transformed, step.tracker, step.attempt, replica=step.replica
        )
    )
    return Outcome(
        record=record,
        artifacts={"verdicts": "verdicts"},
        metrics={
            "checkpoints": len(record.steps),
            "best_step": record.best_step,
            "max_lag_seconds": record.max_lag_seconds,
            "p95_lag_seconds": record.p95_lag_seconds,
        },
        reasons=reasons,
    )


def follow(role: Role, run: RunLayout) -> None:
    """Help the chief of a job of several evaluators, as the replica that the role stands for."""
    command = StepCommand(
        "evaluate", run.pipeline, run.run_id, str(run.root), replica=role.index + 1
    )
    help_step(command, work)


if __name__ == "__main__":
    main("evaluate", work, follow)
