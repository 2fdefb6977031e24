"""The candidate: the best checkpoint by the eval split, as a SavedModel that takes raw features."""

from pathlib import Path

from components.models.checkpoints import load_weights
from components.models.saved_models import export
from components.models.user_model import build_model
from components.quality.verdicts import best_step, read_verdicts
from contract.errors import DataError
from contract.layout import RunLayout
from contract.records.data import TransformRecord
from contract.schema.pipeline import PipelineConfig


def export_candidate(
    run: RunLayout, config: PipelineConfig, transformed: TransformRecord, target: Path
) -> int:
    """Export the checkpoint with the best verdict and return its step.

    Raises:
        ConfigError: If `bless.metric` is none that was measured.
        DataError: If no checkpoint has a usable verdict.
    """
    step = best_step(config, read_verdicts(run))
    if step is None:
        raise DataError(
            f"run '{run.run_id}': no checkpoint has a verdict with a finite "
            f"'{config.bless.metric}' ({run.verdict(0).parent}); look at the log of 'evaluate'"
        )
    graph = run.step("transform") / transformed.transform_graph
    model = build_model(config, run.frozen_pipeline, graph)
    load_weights(model, run, step)
    export(config, graph, model, target)
    return step
