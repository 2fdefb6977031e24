"""`python -m components.evaluate`: judge every published checkpoint exactly once."""

from components.step import Outcome, Step, main
from contract.records import TransformRecord


def work(step: Step) -> Outcome:
    """Adapt the step to `evaluate`."""
    from components.evaluate.evaluate import Evaluation, evaluate  # imports TensorFlow

    transformed = step.upstream("transform", TransformRecord)
    record, reasons = evaluate(Evaluation(step.config, step.run, transformed, step.tracker))
    return Outcome(
        record=record,
        artifacts={"verdicts": "verdicts"},
        metrics={
            "checkpoints": len(record.steps),
            "best_step": record.best_step,
            "max_lag_seconds": record.max_lag_seconds,
        },
        reasons=reasons,
    )


if __name__ == "__main__":
    main("evaluate", work)
